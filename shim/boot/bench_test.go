package boot_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"

	"gantry/api/shimwire"
)

// BenchmarkOutput measures a container's lines of 64 bytes on their way into the
// log, alone and with a client attached.
func BenchmarkOutput(b *testing.B) {
	e := newEngine(b, "")
	const part, parts = 4 << 20, 100
	lines := bytes.Repeat([]byte(fmt.Sprintf("%063d\n", 0)), part/64)
	if err := os.WriteFile(filepath.Join(rootfs, "etc/lines"), lines, 0o644); err != nil {
		b.Fatal(err)
	}
	argv := append([]string{"cat"}, slices.Repeat([]string{"/etc/lines"}, parts)...)
	for _, attached := range []bool{false, true} {
		b.Run(fmt.Sprintf("attached=%v", attached), func(b *testing.B) {
			for b.Loop() {
				k := e.newTask(b, nil, argv...)
				k.create(func(r *taskapi.CreateTaskRequest) {
					r.Stdout = shimwire.LogURI{Path: k.log, Socket: k.socket, MaxSize: 50 << 20, MaxFile: 2}.String()
					r.Stderr = r.Stdout
				})
				done := make(chan int, 1)
				if attached {
					c := k.attach(both)
					go func() { done <- count(c) }()
				}
				began := time.Now()
				k.start("")
				k.wait("")
				if attached {
					if n := <-done; n != part*parts {
						b.Errorf("client got %d bytes", n)
					}
				}
				b.ReportMetric(part*parts/1e6/time.Since(began).Seconds(), "MB/s")
				k.remove()
			}
		})
	}
}

// count reads a stream to its end and returns its bytes.
func count(c *shimwire.Conn) (n int) {
	for {
		f, err := c.Read()
		if err != nil {
			return n
		}
		n += len(f.Data)
	}
}

// BenchmarkLife measures create, start, wait and delete of true, with its shim.
func BenchmarkLife(b *testing.B) {
	e := newEngine(b, "")
	for b.Loop() {
		k := e.newTask(b, nil, "true")
		k.create(nil)
		k.start("")
		k.wait("")
		k.remove()
	}
}

// BenchmarkIdle reports the memory of ten shims whose containers sleep.
func BenchmarkIdle(b *testing.B) {
	e := newEngine(b, "")
	for b.Loop() {
		var shims []*task
		for range 10 {
			k := e.newTask(b, nil, "sleep", "1000")
			k.create(nil)
			k.start("")
			shims = append(shims, k)
		}
		time.Sleep(time.Second)
		total := 0
		for _, k := range shims {
			total += pss(b, k.shimPid())
		}
		b.ReportMetric(float64(total)/1024/float64(len(shims)), "MiB-PSS/shim")
		for _, k := range shims {
			k.kill("", 9)
			k.wait("")
			k.remove()
		}
	}
}

// pss returns a process's proportional memory in KiB.
func pss(b *testing.B, pid int) (kib int) {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for {
		var key string
		var n int
		if _, err := fmt.Fscanf(f, "%s %d kB\n", &key, &n); key == "Pss:" {
			return n
		} else if err != nil && key == "" {
			b.Fatal("no Pss in smaps_rollup")
		}
	}
}
