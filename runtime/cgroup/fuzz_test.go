package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzStats: whatever the counters' files hold, they are read without a fault, and files
// that are whole stay readable beside one that is not.
func FuzzStats(f *testing.F) {
	f.Add("8:0 Read 4096\nTotal 1\n", "some avg10=1.50 total=9\n")
	f.Add("nr_periods 5\nlimit max\n", "8:0 rbytes=1 wbytes=18446744073709551616\n")
	f.Add("-1 : = \x00\n:::\nmax max max", "full avg10=NaN total=-1\n mlx hca_handle=max hca_object=2")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, s := range []string{a, b} {
			flat(s)
			for _, l := range nested(s) {
				l.uint("rbytes")
			}
			numbers(s)
			blkioEntries(s)
			ioEntries(s)
			rdmaEntries(s)
			pressure(s)
			pidsLimit(s)
		}
	})
}

// FuzzStatFiles: as FuzzStats, through the files.
func FuzzStatFiles(f *testing.F) {
	dir := f.TempDir()
	f.Add("usage_usec 5\n", "anon 7\nmax max\n", "5\n")
	f.Add("", "\x00", "-1")
	f.Fuzz(func(t *testing.T, cpu, memory, pids string) {
		for name, text := range map[string]string{"cpu.stat": cpu, "memory.stat": memory, "memory.current": pids, "pids.max": pids, "io.stat": cpu,
			"cpuacct.usage_percpu": cpu, "memory.usage_in_bytes": pids, "blkio.throttle.io_serviced_recursive": memory} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := &statReader{dirOf: func(string) (string, bool) { return dir, true }}
		cpuV1(r)
		memoryV1(r)
		blkioV1(r)
		hugetlbV1(r)
		cpuV2(r)
		memoryV2(r)
		ioV2(r)
		hugetlbV2(r)
		if r.err != nil {
			t.Error(r.err)
		}
	})
}
