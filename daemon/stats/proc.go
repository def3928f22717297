package stats

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

// ticks per second in /proc/stat; the kernel's interface fixes it.
const ticks = 100

// Machine tells what the whole machine has used. Samples that are taken together share one
// look, which costs as much as a third of a sample.
type Machine struct {
	mu     sync.Mutex
	at     time.Time // guarded by mu, as are the following
	nanos  uint64
	online uint32
}

// lookFor is how long a look is good for: little beside the time between samples, which
// the difference is divided by.
const lookFor = Every / 200

// CPU returns the machine's busy and idle time in nanoseconds and how many processors are
// online.
func (m *Machine) CPU() (nanos uint64, online uint32, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.at.IsZero() && time.Since(m.at) < lookFor {
		return m.nanos, m.online, nil
	}
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	if m.nanos, m.online, err = parseStat(f); err != nil {
		m.at = time.Time{}
		return 0, 0, err
	}
	m.at = time.Now()
	return m.nanos, m.online, nil
}

func parseStat(r io.Reader) (nanos uint64, online uint32, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 || !strings.HasPrefix(fields[0], "cpu") {
			break
		}
		if fields[0] != "cpu" {
			online++
			continue
		}
		if len(fields) < 8 {
			return 0, 0, fmt.Errorf("/proc/stat: %d fields of processor time", len(fields)-1)
		}
		for _, f := range fields[1:8] { // user to softirq
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("/proc/stat: %w", err)
			}
			nanos += n * (1e9 / ticks)
		}
	}
	return nanos, online, sc.Err()
}

// Network reads the counters of the interfaces that the process pid sees. Only those of
// networks count: not lo, nor what a container or a module of the kernel has made itself.
func Network(pid int) (map[string]containertypes.NetworkStats, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseNetDev(f)
}

// interfacePrefix begins the names that interfaces of networks have inside.
const interfacePrefix = "eth"

func parseNetDev(r io.Reader) (map[string]containertypes.NetworkStats, error) {
	out := map[string]containertypes.NetworkStats{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		name, counters, ok := strings.Cut(sc.Text(), ":")
		fields := strings.Fields(counters)
		if name = strings.TrimSpace(name); !ok || len(fields) < 16 || !strings.HasPrefix(name, interfacePrefix) {
			continue
		}
		var n [16]uint64
		for i := range n {
			n[i], _ = strconv.ParseUint(fields[i], 10, 64)
		}
		out[name] = containertypes.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return out, sc.Err()
}
