package spec

import (
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
)

// DefaultPath is PATH where neither image nor user sets one.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Env is the environment of a process of the container: the daemon's own variables and
// those of links, overridden by the container's. HOME is last and only where nobody set it.
func Env(c *containertypes.Config, links []string, tty bool, home string) []string {
	env := []string{"PATH=" + DefaultPath, "HOSTNAME=" + c.Hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return withHome(MergeEnv(append(env, links...), c.Env), home)
}

func withHome(env []string, home string) []string {
	if _, set := lookup(env, "HOME"); set || home == "" {
		return env
	}
	return append(env, "HOME="+home)
}

// MergeEnv returns env with overrides applied in place by name, new names appended;
// an override without "=" removes the variable. The last override of a name wins.
func MergeEnv(env, overrides []string) []string {
	out := append([]string(nil), env...)
	for _, o := range overrides {
		name, _, set := strings.Cut(o, "=")
		i, found := lookup(out, name)
		switch {
		case set && found:
			out[i] = o
		case set:
			out = append(out, o)
		case found:
			out = append(out[:i], out[i+1:]...)
		}
	}
	return out
}

func lookup(env []string, name string) (int, bool) {
	for i, e := range env {
		if n, _, _ := strings.Cut(e, "="); n == name {
			return i, true
		}
	}
	return 0, false
}
