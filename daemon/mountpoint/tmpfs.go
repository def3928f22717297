package mountpoint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	mounttypes "github.com/docker/docker/api/types/mount"
)

// TmpfsData turns the structured options into the comma list of `--tmpfs`.
func TmpfsData(o *mounttypes.TmpfsOptions, readOnly bool) (string, error) {
	var data []string
	if readOnly {
		data = append(data, "ro")
	}
	if o == nil {
		return strings.Join(data, ","), nil
	}
	if o.Mode != 0 {
		data = append(data, fmt.Sprintf("mode=%o", o.Mode))
	}
	if o.SizeBytes != 0 {
		data = append(data, "size="+size(o.SizeBytes))
	}
	for _, opt := range o.Options {
		switch {
		case len(opt) < 1 || len(opt) > 2:
			return "", errors.New("invalid option array length")
		case opt[0] != "exec" && opt[0] != "noexec":
			return "", errors.New("invalid option: " + opt[0])
		}
		data = append(data, strings.Join(opt, "="))
	}
	return strings.Join(data, ","), nil
}

// size is n with the largest unit that divides it.
func size(n int64) string {
	for i, unit := range []string{"g", "m", "k"} {
		if div := int64(1) << (30 - 10*i); n%div == 0 {
			return fmt.Sprintf("%d%s", n/div, unit)
		}
	}
	return fmt.Sprint(n)
}

// Pairs of tmpfs and generic mount flags that exclude each other; "" is the absent one.
var flagPairs = [][]string{
	{"ro", "rw"}, {"suid", "nosuid"}, {"dev", "nodev"}, {"exec", "noexec"},
	{"sync", "async"}, {"dirsync"}, {"remount"}, {"mand", "nomand"},
	{"atime", "noatime"}, {"diratime", "nodiratime"}, {"bind"}, {"rbind"},
	{"relatime", "norelatime"}, {"strictatime", "nostrictatime"},
	{"unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave"},
}

var tmpfsValues = []string{"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"}

// MergeTmpfs joins options, later ones winning over earlier ones of the same kind, and
// refuses what tmpfs does not know. Order is that of the winners.
func MergeTmpfs(options []string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	for _, o := range slices.Backward(options) {
		if o == "defaults" || o == "" {
			continue
		}
		kind, ok := tmpfsKind(o)
		if !ok {
			return nil, fmt.Errorf("Invalid tmpfs option %q", o) //nolint:staticcheck // Docker's words
		}
		if !seen[kind] {
			seen[kind] = true
			out = append(out, o)
		}
	}
	slices.Reverse(out)
	return out, nil
}

func tmpfsKind(o string) (kind string, ok bool) {
	for _, pair := range flagPairs {
		if slices.Contains(pair, o) {
			return pair[0], true
		}
	}
	key, _, valued := strings.Cut(o, "=")
	return key, valued && slices.Contains(tmpfsValues, key)
}
