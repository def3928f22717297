package volume

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/docker/docker/api/types/filters"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/api/errdefs"
)

// List returns the volumes that the filters match, by name. There are never warnings:
// those would be of drivers that don't answer.
func (s *Service) List(_ context.Context, args filters.Args) ([]*volumetypes.Volume, []string, error) {
	keep, err := newFilter(args, map[string]bool{"dangling": true, "name": true, "driver": true, "label": true})
	if err != nil {
		return nil, nil, err
	}
	out := []*volumetypes.Volume{}
	for _, e := range s.all() {
		if keep.match(e.rec, len(s.usersOf(e)) > 0) {
			out = append(out, s.view(e.rec))
		}
	}
	return out, nil, nil
}

// Inspect describes one volume.
func (s *Service) Inspect(_ context.Context, name string) (*volumetypes.Volume, error) {
	e, err := s.find(name)
	if err != nil {
		return nil, err
	}
	return s.view(e.rec), nil
}

// DiskUsage measures the volumes whose content is here; one that can't be measured has
// size -1.
func (s *Service) DiskUsage(ctx context.Context) ([]*volumetypes.Volume, error) {
	out := []*volumetypes.Volume{}
	for _, e := range s.all() {
		if len(e.rec.Options) > 0 {
			continue
		}
		size, err := dirSize(ctx, s.data(e.rec.Name))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			s.log.WarnContext(ctx, "measure volume", "volume", e.rec.Name, "err", err)
			size = -1
		}
		v := s.view(e.rec)
		v.UsageData = &volumetypes.UsageData{Size: size, RefCount: int64(len(s.usersOf(e)))}
		out = append(out, v)
	}
	return out, nil
}

// dirSize adds up the files below path, in bytes, those with several names once.
func dirSize(ctx context.Context, path string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var size int64
	err := filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone while we looked
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			id := inode{st.Dev, st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		size += info.Size()
		return nil
	})
	return size, err
}

// filter is a checked set of list or prune filters.
type filter struct {
	args     filters.Args
	dangling *bool
}

func newFilter(args filters.Args, accepted map[string]bool) (filter, error) {
	f := filter{args: args}
	if err := args.Validate(accepted); err != nil {
		return f, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if args.Contains("dangling") {
		want, err := args.GetBoolOrDefault("dangling", false)
		if err != nil {
			return f, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		f.dangling = &want
	}
	return f, nil
}

func (f filter) match(r record, used bool) bool {
	a := f.args
	switch {
	case a.Contains("driver") && !a.ExactMatch("driver", Driver),
		a.Contains("name") && !a.Match("name", r.Name),
		!a.MatchKVList("label", r.Labels),
		a.Contains("label!") && a.MatchKVList("label!", r.Labels),
		f.dangling != nil && *f.dangling == used:
		return false
	}
	return true
}
