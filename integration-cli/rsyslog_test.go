package integrationcli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gantry/internal/testutil/need"
)

// rsyslogConfig listens at a port of its own choosing and at a socket, and writes what it
// makes of each message.
const rsyslogConfig = `
global(workDirectory="%[1]s" maxMessageSize="32k")
module(load="imtcp")
module(load="imuxsock" SysSock.Use="off")
input(type="imtcp" address="127.0.0.1" port="0" listenPortFileName="%[1]s/port")
input(type="imuxsock" Socket="%[1]s/sock" CreatePath="off" useSysTimeStamp="off")
template(name="t" type="string" string="%%syslogfacility-text%% %%syslogseverity-text%% %%app-name%% %%msg%%\n")
action(type="omfile" file="%[1]s/out" template="t")
`

// TestForwardRsyslog has a real syslog server understand every format.
func TestForwardRsyslog(t *testing.T) {
	t.Parallel()
	bin := need.Command(t, "rsyslogd")
	e := start(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, rsyslogConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(bin, "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Process.Signal(syscall.SIGTERM); server.Wait() })
	read := func(name string) string { b, _ := os.ReadFile(filepath.Join(dir, name)); return string(b) }
	eventually(t, "rsyslog listens", func() bool { return read("port") != "" })

	tcp := "tcp://127.0.0.1:" + strings.TrimSpace(read("port"))
	var want []string
	for i, opts := range [][]string{
		{"syslog-address=" + tcp, "syslog-format=rfc3164"},
		{"syslog-address=" + tcp, "syslog-format=rfc5424", "syslog-facility=local3"},
		{"syslog-address=" + tcp, "syslog-format=rfc5424micro", "syslog-facility=mail"},
		{"syslog-address=unixgram://" + dir + "/sock"},
	} {
		args := []string{"run", "--rm", "--log-driver", "syslog", "--log-opt", fmt.Sprintf("tag=app%d", i)}
		for _, o := range opts {
			args = append(args, "--log-opt", o)
		}
		e.Must(append(args, image, "sh", "-c", "echo said; echo cried >&2")...)
		facility := []string{"daemon", "local3", "mail", "daemon"}[i]
		want = append(want, fmt.Sprintf("%s info app%d said", facility, i), fmt.Sprintf("%s err app%d cried", facility, i))
	}
	eventually(t, "all has come", func() bool { return strings.Count(read("out"), "\n") >= len(want) })
	got := map[string]bool{}
	for line := range strings.Lines(read("out")) {
		got[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, w := range want {
		if !got[w] {
			t.Errorf("not there: %s\n%s", w, read("out"))
		}
	}
}
