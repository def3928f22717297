package link_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-connections/nat"

	"gantry/daemon/link"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"db": "db db", "db:database": "db database", "/db:/web/database": "db database", "/db:database": "db database",
		"": "error: empty string specified for links", "a:b:c": "error: bad format for links: a:b:c",
		"a:": "error: bad format for links: a:", "a:../b": "error: bad format for links: a:../b", "a:b/c": "error: bad format for links: a:b/c",
		"/a:/..": "error: bad format for links: /a:/..", ":a": "error: bad format for links: :a",
	} {
		name, alias, err := link.Parse(in)
		got := name + " " + alias
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want {
			t.Errorf("Parse(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestEnv(t *testing.T) {
	ports := nat.PortSet{"6379/tcp": {}, "6380/tcp": {}, "53/udp": {}, "80/tcp": {}, "6381/tcp": {}}
	got := link.Env("web", "my-db", "172.17.0.2", []string{"A=1=2", "PATH=/bin", "HOME=/", "NONE"}, ports)
	want := strings.Split(strings.TrimSpace(`
MY_DB_PORT=tcp://172.17.0.2:80
MY_DB_PORT_80_TCP=tcp://172.17.0.2:80
MY_DB_PORT_80_TCP_ADDR=172.17.0.2
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_PORT_6379_TCP=tcp://172.17.0.2:6379
MY_DB_PORT_6379_TCP_ADDR=172.17.0.2
MY_DB_PORT_6379_TCP_PORT=6379
MY_DB_PORT_6379_TCP_PROTO=tcp
MY_DB_PORT_6380_TCP=tcp://172.17.0.2:6380
MY_DB_PORT_6380_TCP_ADDR=172.17.0.2
MY_DB_PORT_6380_TCP_PORT=6380
MY_DB_PORT_6380_TCP_PROTO=tcp
MY_DB_PORT_6381_TCP=tcp://172.17.0.2:6381
MY_DB_PORT_6381_TCP_ADDR=172.17.0.2
MY_DB_PORT_6381_TCP_PORT=6381
MY_DB_PORT_6381_TCP_PROTO=tcp
MY_DB_PORT_6379_TCP_START=tcp://172.17.0.2:6379
MY_DB_PORT_6379_TCP_PORT_START=6379
MY_DB_PORT_6379_TCP_END=tcp://172.17.0.2:6381
MY_DB_PORT_6379_TCP_PORT_END=6381
MY_DB_PORT_53_UDP=udp://172.17.0.2:53
MY_DB_PORT_53_UDP_ADDR=172.17.0.2
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_NAME=/web/my-db
MY_DB_ENV_A=1=2`), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
	if got := link.Env("web", "db", "1.2.3.4", nil, nil); !slices.Equal(got, []string{"DB_NAME=/web/db"}) {
		t.Errorf("without ports: %v", got)
	}
}
