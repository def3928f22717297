package cputime

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	for _, row := range []struct {
		name, file, text string
		want             float64
		ok               bool
	}{
		{"v1 is in ns", "cpuacct.usage", "2500000\n", 2.5, true},
		{"v2 is in µs, by name", "cpu.stat", "usage_usec 2500\nuser_usec 1\n", 2.5, true},
		{"v2 without the controller", "cpu.stat", "nr_periods 0\nnr_throttled 0\n", 0, false},
		{"no number", "cpuacct.usage", "x\n", 0, false},
		{"nothing", "", "", 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			if row.file != "" {
				if err := os.WriteFile(filepath.Join(dir, row.file), []byte(row.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, ok := Read(File(dir)); got != row.want || ok != row.ok {
				t.Errorf("got %v %v, want %v %v", got, ok, row.want, row.ok)
			}
		})
	}
}
