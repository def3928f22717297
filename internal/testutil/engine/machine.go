package engine

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// machine is what an engine runs in as if it were a host of its own: a process, mount
// and network namespace and a boot id. Its end is a power cut for all but the disk.
type machine struct{ boot string } // boot is the file whose text is the boot id

const bootScript = `mount --bind "$1" /proc/sys/kernel/random/boot_id && ip link set lo up || exit 1
shift; "$@" & wait`

// StartMachine is Start on a machine of the engine's own. What the leak check sees from
// outside is files, cgroups and processes; links and rules go with the machine.
func StartMachine(t testing.TB, args ...string) *Engine {
	t.Helper()
	need.Command(t, "unshare")
	need.Command(t, "ip")
	return start(t, &Engine{machine: &machine{}}, args...)
}

// command is how the machine is switched on to run a program.
func (m *machine) command(dir, program string, args []string) ([]string, error) {
	m.boot = filepath.Join(dir, "boot_id")
	var id [16]byte
	rand.Read(id[:])
	text := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	if err := os.WriteFile(m.boot, []byte(text), 0o444); err != nil {
		return nil, err
	}
	words := []string{"unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL",
		"sh", "-c", bootScript, "sh", m.boot, program}
	return append(words, args...), nil
}

// PowerOff ends everything on the engine's machine at once. The directories stay as
// they are; the cgroups, which are the real host's, go.
func (e *Engine) PowerOff() {
	e.t.Helper()
	if e.machine == nil {
		e.t.Fatal("the engine is not on a machine of its own")
	}
	e.cmd.Process.Kill() // and the first process of the namespace with it
	<-e.ended
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := leak.RemoveCgroups(e.Dir)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			e.t.Fatalf("cgroups of a machine that is off: %v", left)
		}
	}
}

// daemonPID is the daemon's pid as the test sees it.
func (m *machine) daemonPID(unshare int) int {
	for _, first := range children(unshare) {
		for _, pid := range children(first) {
			raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
			name, _, _ := bytes.Cut(raw, []byte{0})
			if filepath.Base(string(name)) == "gantryd" {
				return pid
			}
		}
	}
	return unshare
}

func children(pid int) (all []int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, f := range strings.Fields(string(raw)) {
		if n, err := strconv.Atoi(f); err == nil {
			all = append(all, n)
		}
	}
	return all
}
