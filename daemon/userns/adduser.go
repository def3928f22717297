package userns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/moby/sys/user"
)

// hostUsers are those of this machine's files.
type hostUsers struct{}

func (hostUsers) user(name string) (user.User, error)   { return user.LookupUser(name) }
func (hostUsers) userID(id int) (user.User, error)      { return user.LookupUid(id) }
func (hostUsers) group(name string) (user.Group, error) { return user.LookupGroup(name) }
func (hostUsers) groupID(id int) (user.Group, error)    { return user.LookupGid(id) }

// add makes a system user with a group of the same name, and subordinate ids for it.
func (hostUsers) add(name string) error {
	if err := addUser(name); err != nil {
		return fmt.Errorf("error adding user %q: %w", name, err)
	}
	if err := addRanges(name); err != nil {
		return fmt.Errorf("couldn't create subordinate ID ranges: %w", err)
	}
	return nil
}

func addUser(name string) error {
	if _, err := exec.LookPath("adduser"); err == nil {
		return run("adduser", "--system", "--shell", "/bin/false", "--no-create-home",
			"--disabled-login", "--disabled-password", "--group", name)
	}
	if _, err := exec.LookPath("useradd"); err == nil {
		return run("useradd", "--system", "--shell", "/bin/false", name)
	}
	return errors.New("cannot add user; no useradd/adduser binary found")
}

// Subordinate ids as useradd gives them.
const (
	firstID   = 100000
	rangeSize = 65536
)

// addRanges gives the user what it has not been given by whatever made it.
func addRanges(name string) error {
	for _, f := range []struct{ path, option string }{{"/etc/subuid", "--add-subuids"}, {"/etc/subgid", "--add-subgids"}} {
		all, err := user.ParseSubIDFile(f.path)
		if err != nil {
			return fmt.Errorf("read %s: %w", f.path, err)
		}
		if slices.ContainsFunc(all, func(s user.SubID) bool { return s.Name == name }) {
			continue
		}
		first := freeRange(all)
		if err := run("usermod", f.option, fmt.Sprintf("%d-%d", first, first+rangeSize-1), name); err != nil {
			return err
		}
	}
	return nil
}

// freeRange is where rangeSize ids begin that are nobody's.
func freeRange(taken []user.SubID) int64 {
	taken = slices.Clone(taken)
	slices.SortFunc(taken, func(a, b user.SubID) int { return cmp.Compare(a.SubID, b.SubID) })
	first := int64(firstID)
	for _, t := range taken {
		if overlap(first, t.SubID, rangeSize, t.Count) {
			first = t.SubID + t.Count
		}
	}
	return first
}

const toolTime = 30 * time.Second // a directory service may be asked

func run(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTime)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w; output: %.1000q", name, err, out)
	}
	return nil
}
