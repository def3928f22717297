package volume

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
)

// Remove deletes a volume and its content. Conflict while a container has it; NotFound
// when there is none, which force makes fine.
func (s *Service) Remove(ctx context.Context, name string, force bool) error {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := s.find(name)
	if err != nil {
		if force {
			return nil
		}
		return err
	}
	return s.remove(e)
}

// remove is Remove of a volume whose lane the caller holds.
func (s *Service) remove(e *entry) error {
	name := e.rec.Name
	if users := s.usersOf(e); len(users) > 0 {
		return opError("remove", name, errdefs.Conflict("volume is in use - [%s]", strings.Join(users, ", ")))
	}
	if s.inMounts(e) {
		return opError("remove", name, errdefs.Internal("volume has active mounts"))
	}
	if err := s.unmountUnused(e); err != nil {
		return err
	}
	aside := filepath.Join(s.root, removedPrefix+name+"-"+rand.Text()[:8])
	err := os.Rename(s.dir(name), aside)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return opError("remove", name, err)
	}
	// Else a power cut could bring the content back under its name, and no record.
	if err := syncDir(s.root); err != nil {
		s.log.Warn("sync the volumes' directory", "err", err)
	}
	failpoint.Hit("daemon/volume.remove.aside")
	if err := s.forget(name); err != nil {
		return opError("remove", name, errors.Join(err, os.Rename(aside, s.dir(name))))
	}
	failpoint.Hit("daemon/volume.remove.forgotten")
	s.mu.Lock()
	delete(s.vols, name)
	s.mu.Unlock()
	s.publish(events.ActionDestroy, name, map[string]string{"driver": Driver})
	if err := os.RemoveAll(aside); err != nil {
		// The volume has gone; what is left is tried again at the next start.
		s.log.Warn("content of removed volume stays", "path", aside, "err", err)
	}
	failpoint.Hit("daemon/volume.remove.deleted")
	return nil
}

// Prune removes the anonymous volumes that no container has, with the filter all those
// with a name too. Volumes with options stay: their content is elsewhere. Conflict while
// another prune runs.
func (s *Service) Prune(ctx context.Context, args filters.Args) (*volumetypes.PruneReport, error) {
	if !s.pruning.CompareAndSwap(false, true) {
		return nil, errdefs.Conflict("a prune operation is already running")
	}
	defer s.pruning.Store(false)
	args, err := pruneArgs(args)
	if err != nil {
		return nil, err
	}
	keep, err := newFilter(args, map[string]bool{"label": true, "label!": true, "all": true})
	if err != nil {
		return nil, err
	}
	report := &volumetypes.PruneReport{VolumesDeleted: []string{}}
	for _, e := range s.all() {
		if ctx.Err() != nil {
			break
		}
		if len(e.rec.Options) == 0 && keep.match(e.rec, false) {
			s.pruneOne(ctx, e, report)
		}
	}
	s.publish(events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	return report, nil
}

// pruneArgs adds the label of anonymous volumes unless all is asked for.
func pruneArgs(args filters.Args) (filters.Args, error) {
	all := args.Get("all")
	switch {
	case len(all) > 1:
		return args, errdefs.InvalidArgument("invalid filter 'all=%s': only one value is expected", all)
	case len(all) == 1:
		ok, err := strconv.ParseBool(all[0])
		if err != nil {
			return args, errdefs.InvalidArgument("invalid filter 'all': %w", err)
		}
		if ok {
			return args, nil
		}
	}
	args = args.Clone()
	args.Add("label", AnonymousLabel)
	return args, nil
}

func (s *Service) pruneOne(ctx context.Context, e *entry, report *volumetypes.PruneReport) {
	unlock, err := s.lock(ctx, e.rec.Name)
	if err != nil {
		return
	}
	defer unlock()
	if s.get(e.rec.Name) != e || len(s.usersOf(e)) > 0 {
		return
	}
	size, err := dirSize(ctx, s.data(e.rec.Name))
	if err != nil {
		s.log.WarnContext(ctx, "measure volume", "volume", e.rec.Name, "err", err)
	}
	if err := s.remove(e); err != nil {
		s.log.WarnContext(ctx, "prune volume", "volume", e.rec.Name, "err", err)
		return
	}
	report.SpaceReclaimed += uint64(max(size, 0)) //nolint:gosec // not negative
	report.VolumesDeleted = append(report.VolumesDeleted, e.rec.Name)
}
