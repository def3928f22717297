package integrationcli

import (
	"slices"
	"strings"
	"testing"
)

// TestLink links containers on the default bridge, and what they see of each other
// follows restarts, of the containers and of the engine.
func TestLink(t *testing.T) {
	e := start(t)
	address := func(name string) string {
		return e.Must("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
	}
	e.Must("run", "-d", "--name", "db", "-h", "dbhost", "-e", "SECRET=s", "--expose", "81-82", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "web", "--link", "db:my-data", "--link", "db", image, "sleep", "1000")
	was := address("db")
	hosts := e.Must("exec", "web", "cat", "/etc/hosts")
	for _, line := range []string{was + "\tmy-data dbhost db", was + "\tdb dbhost", address("web") + "\t"} {
		if !strings.Contains(hosts, line) {
			t.Errorf("no %q in hosts:\n%s", line, hosts)
		}
	}
	env := strings.Split(e.Must("exec", "web", "env"), "\n")
	for _, want := range []string{
		"MY_DATA_PORT=tcp://" + was + ":81", "MY_DATA_PORT_82_TCP_ADDR=" + was, "MY_DATA_PORT_81_TCP_PORT_END=82",
		"MY_DATA_NAME=/web/my-data", "MY_DATA_ENV_SECRET=s", "DB_NAME=/web/db",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s in the environment:\n%s", want, strings.Join(env, "\n"))
		}
	}
	if got := e.Must("inspect", "-f", "{{.HostConfig.Links}}", "web"); got != "[/db:/web/my-data /db:/web/db]" {
		t.Errorf("inspect: %s", got)
	}
	if got := e.Must("ps", "--no-trunc", "--format", "{{.Names}}", "--filter", "name=db"); got != "db,web/db,web/my-data" {
		t.Errorf("ps: %s", got)
	}
	if got := e.Must("inspect", "-f", "{{.Name}}", "web/my-data"); got != "/db" {
		t.Errorf("by the link's name: %s", got)
	}

	e.Must("stop", "-t", "0", "db")
	e.Must("run", "-d", "--name", "between", image, "sleep", "1000") // takes the address
	e.Must("start", "db")
	if now := address("db"); now == was {
		t.Errorf("db has its address again")
	} else if hosts := e.Must("exec", "web", "cat", "/etc/hosts"); !strings.Contains(hosts, now+"\tmy-data dbhost db") || strings.Contains(hosts, was+"\tmy-data") {
		t.Errorf("db has moved from %s to %s, and hosts says\n%s", was, now, hosts)
	}

	e.Kill()
	e.Launch()
	e.Must("rename", "web", "shop")
	e.Must("rm", "--link", "shop/db")
	if got := e.Must("inspect", "-f", "{{.HostConfig.Links}}", "shop"); got != "[/db:/shop/my-data]" {
		t.Errorf("after a restart, a rename and rm --link: %s", got)
	}
	e.Must("stop", "-t", "0", "db", "shop")
	for want, args := range map[string][]string{
		"Cannot link to a non running container: /db AS /shop/my-data":         {"start", "shop"},
		"could not get container for nobody: No such container: nobody":        {"create", "--link", "nobody:x", image},
		"conflicting options: host type networking can't be used with links":   {"create", "--network", "host", "--link", "db:x", image},
		"conflicting options: container type network can't be used with links": {"create", "--network", "container:db", "--link", "db:x", image},
		"Conflict, cannot remove the default link name of the container":       {"rm", "--link", "db"},
		"bad format for links: a:b:c":                                          {"create", "--link", "a:b:c", image},
		"Cannot get parent /nobody for link name /nobody/x":                    {"rm", "--link", "nobody/x"},
	} {
		got := e.Docker(args...)
		if got.Code == 0 || !strings.Contains(got.Stderr, want) && !strings.Contains(got.Stderr, "No such container: nobody/x") {
			t.Errorf("docker %s: %d %s", strings.Join(args, " "), got.Code, got.Stderr)
		}
	}
	e.Clean(t)
}

// TestLinkAtBoot: by their policies the one that is linked to starts first.
func TestLinkAtBoot(t *testing.T) {
	e := start(t, "--live-restore=false")
	e.Must("run", "-d", "--name", "one", "--restart", "always", "--stop-timeout", "0", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "two", "--restart", "always", "--stop-timeout", "0", "--link", "one", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "three", "--restart", "always", "--stop-timeout", "0", "--link", "two", image, "sleep", "1000")
	e.Terminate()
	e.Launch()
	eventually(t, "all run", func() bool {
		return e.Must("ps", "-q", "--filter", "status=running") != "" && len(strings.Fields(e.Must("ps", "-q"))) == 3
	})
	if hosts := e.Must("exec", "three", "cat", "/etc/hosts"); !strings.Contains(hosts, "\ttwo ") {
		t.Errorf("hosts of three:\n%s", hosts)
	}
	e.Clean(t)
}
