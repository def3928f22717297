package idmap

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

const (
	toolTime = 10 * time.Second // they look into files, or ask a directory service
	toolSays = 1 << 10          // bytes kept of it
)

// runTool has the set-user-id program write the map, which checks that the ids
// are the caller's.
func (k kind) runTool(pid int, list []specs.LinuxIDMapping) error {
	path, err := exec.LookPath(k.tool)
	if err != nil {
		return fmt.Errorf("a map of more than one's own %s id takes %s: %w: %w", k.noun, k.tool, err, errdefs.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	args := []string{strconv.Itoa(pid)}
	for _, m := range list {
		for _, n := range []uint32{m.ContainerID, m.HostID, m.Size} {
			args = append(args, strconv.FormatUint(uint64(n), 10))
		}
	}
	said := new(head)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = said, said, time.Second
	err = cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return fmt.Errorf("%s: %w%s%s", k.tool, err, said, k.owned())
}

// owned explains a refusal by what the table gives the user, where it is a file
// that we can read.
func (k kind) owned() string {
	who, err := user.CurrentUser()
	if err != nil {
		return ""
	}
	list, err := user.ParseSubIDFileFilter(k.table, func(s user.SubID) bool {
		return s.Name == who.Name || s.Name == strconv.Itoa(who.Uid)
	})
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (%s has for %s: %s)", k.table, who.Name, ranges(list))
}

func ranges(list []user.SubID) string {
	if len(list) == 0 {
		return "nothing"
	}
	var all []string
	for _, s := range list {
		all = append(all, fmt.Sprintf("%d ids from %d", s.Count, s.SubID))
	}
	return strings.Join(all, ", ")
}

// head keeps the beginning of what is written to it.
type head struct{ b []byte }

var _ io.Writer = (*head)(nil)

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), toolSays-len(h.b))]...)
	return len(p), nil
}

// String is what was said, in one line, behind a colon.
func (h *head) String() string {
	line := strings.Join(strings.Fields(string(h.b)), " ")
	if line == "" {
		return ""
	}
	return ": " + line
}
