// Package cputime reads the processor time of a cgroup.
package cputime

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// File is where the cgroup directory dir tells its time: cpuacct.usage in v1, cpu.stat
// in v2.
func File(dir string) string {
	v1 := filepath.Join(dir, "cpuacct.usage")
	if _, err := os.Stat(v1); err == nil {
		return v1
	}
	return filepath.Join(dir, "cpu.stat")
}

// Read returns the ms that the processes of a cgroup have used so far, from its File, and
// whether it could be read.
func Read(file string) (ms float64, ok bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	f := strings.Fields(string(text))
	for i := range f {
		if f[i] == "usage_usec" && i+1 < len(f) {
			v, err := strconv.ParseFloat(f[i+1], 64)
			return v / 1e3, err == nil
		}
	}
	if len(f) != 1 {
		return 0, false
	}
	v, err := strconv.ParseFloat(f[0], 64) // ns
	return v / 1e6, err == nil
}
