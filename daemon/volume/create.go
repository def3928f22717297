package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/docker/docker/api/types/events"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
)

// Create makes a volume, or returns the one of that name, whatever its options. An
// empty name gets one of 64 hex digits and the anonymous label.
func (s *Service) Create(ctx context.Context, o volumetypes.CreateOptions) (*volumetypes.Volume, error) {
	return s.Ensure(ctx, o, "")
}

// Ensure is Create, with a reference by user (a container's id) that keeps the volume
// from removal until Release.
func (s *Service) Ensure(ctx context.Context, o volumetypes.CreateOptions, user string) (*Volume, error) {
	if o.ClusterVolumeSpec != nil {
		return nil, errdefs.NotImplemented("cluster volumes are not supported")
	}
	rec, err := newRecord(o)
	if err != nil {
		return nil, err
	}
	unlock, err := s.lock(ctx, rec.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	e := s.get(rec.Name)
	if e == nil {
		if e, err = s.make(rec); err != nil {
			return nil, opError("create", rec.Name, err)
		}
	}
	s.refer(e, user)
	return s.view(e.rec), nil
}

func newRecord(o volumetypes.CreateOptions) (record, error) {
	r := record{Name: o.Name, Labels: maps.Clone(o.Labels), Options: maps.Clone(o.DriverOpts), Created: time.Now()}
	if r.Name == "" {
		var id [32]byte
		_, _ = rand.Read(id[:])
		r.Name = hex.EncodeToString(id[:])
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[AnonymousLabel] = ""
	}
	if o.Driver != "" && o.Driver != Driver {
		return r, opError("create", r.Name, errdefs.NotFound("error looking up volume plugin %s: plugin %q not found", o.Driver, o.Driver))
	}
	return r, nil
}

// make creates directories, then the record. The caller holds the lane.
func (s *Service) make(r record) (_ *entry, err error) {
	if err := errors.Join(checkName(r.Name), checkOptions(r.Options)); err != nil {
		return nil, err
	}
	if err := s.makeDirs(r.Name); err != nil {
		_ = s.dropEmpty(r.Name)
		return nil, errdefs.Internal("error while creating volume root path '%s': %w", s.dir(r.Name), err)
	}
	failpoint.Hit("daemon/volume.create.directories")
	if err := s.save(r); err != nil {
		_ = s.dropEmpty(r.Name)
		return nil, fmt.Errorf("error while persisting volume: %w", err)
	}
	failpoint.Hit("daemon/volume.create.recorded")
	e := newEntry(r)
	s.mu.Lock()
	s.vols[r.Name] = e
	s.mu.Unlock()
	s.publish(events.ActionCreate, r.Name, map[string]string{"driver": Driver})
	return e, nil
}

func (s *Service) refer(e *entry, user string) {
	if user == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.users[user] = true
}

const nameChars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var nameRule = regexp.MustCompile(`^` + nameChars + `+$`)

// maxName is what a directory's name may have, in bytes, with room for removedPrefix.
const maxName = 200

func checkName(name string) error {
	switch {
	case len(name) == 1:
		return errdefs.InvalidArgument("volume name is too short, names should be at least two alphanumeric characters")
	case !nameRule.MatchString(name):
		return errdefs.InvalidArgument("%q includes invalid characters for a local volume name, only %q are allowed. If you intended to pass a host directory, use absolute path", name, nameChars)
	case len(name) > maxName:
		return errdefs.InvalidArgument("volume name is too long, names should have at most %d characters", maxName)
	}
	return nil
}

// opError puts what was tried before the reason, as Docker does; the class stays.
func opError(op, name string, err error) error { return fmt.Errorf("%s %s: %w", op, name, err) }

func errNoSuchVolume() error { return errdefs.NotFound("no such volume") }

func (s *Service) find(name string) (*entry, error) {
	if e := s.get(name); e != nil {
		return e, nil
	}
	return nil, opError("get", name, errNoSuchVolume())
}
