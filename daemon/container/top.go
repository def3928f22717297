package container

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strconv"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/moby/sys/user"

	"gantry/api/errdefs"
	"gantry/daemon/top"
	"gantry/libctr/core/task"
)

// Top answers `docker top` from /proc.
func (s *Service) Top(ctx context.Context, ref, args string) (containertypes.TopResponse, error) {
	e, err := s.find(ref)
	if err != nil {
		return containertypes.TopResponse{}, err
	}
	switch st := e.snapshot().Status; {
	case st == Restarting:
		return containertypes.TopResponse{}, errRestarting(e.id)
	case !st.HasTask():
		return containertypes.TopResponse{}, errNotRunning(e.id)
	}
	found, err := s.Tasks.Pids(ctx, e.id)
	if err != nil {
		return containertypes.TopResponse{}, err
	}
	boot := top.BootTime()
	slices.SortFunc(found, func(a, b task.Process) int { return cmp.Compare(a.PID, b.PID) })
	var list []top.Process
	for _, f := range found {
		if p, err := top.Read(int(f.PID), boot); err == nil { // else it has ended meanwhile
			list = append(list, p)
		}
	}
	t, err := top.Table(args, list, s.psHost(boot))
	if err != nil {
		return containertypes.TopResponse{}, errdefs.WithClass(errdefs.ErrInternal, err)
	}
	s.publish(e.snapshot(), events.ActionTop, nil)
	return t, nil
}

func (s *Service) psHost(boot time.Time) top.Host {
	users, groups := map[int]string{}, map[int]string{}
	if f, err := os.Open("/etc/passwd"); err == nil {
		list, _ := user.ParsePasswd(f)
		f.Close()
		for _, u := range list {
			users[u.Uid] = u.Name
		}
	}
	if f, err := os.Open("/etc/group"); err == nil {
		list, _ := user.ParseGroup(f)
		f.Close()
		for _, g := range list {
			groups[g.Gid] = g.Name
		}
	}
	named := func(names map[int]string) func(uint32) string {
		return func(id uint32) string {
			switch n := names[int(id)]; {
			case len(n) > 8: // the width of ps's column
				return n[:7] + "+"
			case n != "":
				return n
			}
			return strconv.FormatUint(uint64(id), 10)
		}
	}
	return top.Host{Boot: boot, Memory: s.cfg.Host.MemoryTotal, Now: time.Now(), User: named(users), Group: named(groups)}
}
