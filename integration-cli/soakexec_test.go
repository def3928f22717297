package integrationcli

import (
	"fmt"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// TestSoakExec runs many execs in one container; neither the daemon nor the shim
// keeps anything of them.
func TestSoakExec(t *testing.T) {
	e := start(t)
	n := scale(100_000, 100)
	e.Must("run", "-d", "--name", "c1", image, "sleep", "100000")
	shim := shimOf(t, e, "c1")
	all := func(from, to int) {
		lanes(t, 4, func(lane int) error {
			for i := from + lane; i < to; i += 4 {
				if err := execOnce(e, "c1", i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	all(0, 40)
	daemonBefore, shimBefore := usageOfDaemon(t, e, 0), usageOf(t, shim)
	all(40, 40+n)
	daemonAfter := usageOfDaemon(t, e, daemonBefore.goroutines)
	daemonBefore.heap += min(n, 10_000) // what is kept of ended execs for inspect, up to so many
	flat(t, "gantryd", n, daemonBefore, daemonAfter)
	flat(t, "shim", n, shimBefore, usageOf(t, shim))
}

// execOnce echoes i, with and without a terminal, and ends with i modulo 100.
func execOnce(e *engine.Engine, ref string, i int) error {
	tty := i%5 == 0
	text, err := want(e, 201, "POST", "/containers/"+ref+"/exec", object{
		"AttachStdout": true, "AttachStderr": true, "Tty": tty,
		"Cmd": []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%100)},
	})
	if err != nil {
		return err
	}
	id := field(text, "Id")
	out, err := want(e, 200, "POST", "/exec/"+id+"/start", object{"Tty": tty})
	if err != nil {
		return err
	}
	expect := fmt.Sprintf("%d\r\n", i)
	if !tty {
		line := fmt.Sprintf("%d\n", i)
		expect = fmt.Sprintf("\x01\x00\x00\x00\x00\x00\x00%c%s", len(line), line)
	}
	if out != expect {
		return fmt.Errorf("exec %d wrote %q", i, out)
	}
	if text, err = want(e, 200, "GET", "/exec/"+id+"/json", nil); err != nil {
		return err
	}
	if expect := fmt.Sprintf(`"ExitCode":%d,`, i%100); !strings.Contains(text, expect) {
		return fmt.Errorf("exec %d: no %s in %s", i, expect, text)
	}
	return nil
}
