package boot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"encoding/json"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/shimwire"
)

func taskNs(pid int) (ns int64, n int) {
	dirs, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, d := range dirs {
		b, _ := os.ReadFile(d)
		f := strings.Fields(string(b))
		if len(f) > 0 {
			v, _ := strconv.ParseInt(f[0], 10, 64)
			ns += v
		}
	}
	return ns, len(dirs)
}

func TestZZCPU(t *testing.T) {
	bins := []string{shimBinary}
	if b := os.Getenv("SHIM_BIN"); b != "" {
		bins = strings.Split(b, ",")
	}
	e := newEngine(t, "")
	var progs []*os.File
	for _, b := range bins {
		shimBinary = b
		progs = append(progs, protected(t))
	}
	type row map[string]float64
	all := make([][]row, len(bins))
	var threads int
	dockerSpec, _ := os.ReadFile(os.Getenv("SPEC"))
	for i := range 30 * len(bins) {
		prog := progs[i%len(bins)]
		shimBinary = bins[i%len(bins)]
		r := row{}
		k := e.newBundle(t, func(s *specs.Spec) {
			if len(dockerSpec) > 0 {
				cg, root := s.Linux.CgroupsPath, s.Root
				*s = specs.Spec{}
				if err := json.Unmarshal(dockerSpec, s); err != nil {
					t.Fatal(err)
				}
				s.Linux.CgroupsPath, s.Root = cg, root
				s.Process.Args = []string{"sleep", "1000"}
				s.Hooks = nil
			}
		}, "sleep", "1000")
		t0 := time.Now()
		shim := k.serve(prog, "containerd-shim-gantry-v2")
		mark := func(what string) {
			r["wall."+what] = float64(time.Since(t0).Microseconds()) / 1000
			ns, n := taskNs(shim.Pid)
			r["cpu."+what] = float64(ns) / 1e6
			threads = n
			t0 = time.Now()
		}
		if _, err := k.api.Connect(k.ctx, &taskapi.ConnectRequest{ID: k.id}); err != nil {
			t.Fatal(err)
		}
		mark("1boot")
		k.create(func(r *taskapi.CreateTaskRequest) {
			r.Stdout = shimwire.LogURI{Path: k.log, Socket: k.socket, MaxSize: 50 << 20, MaxFile: 2}.String()
			r.Stderr = r.Stdout
		})
		mark("2create")
		k.start("")
		mark("3start")
		time.Sleep(5 * time.Millisecond)
		mark("4rest")
		k.exec("x", nil, "true")
		k.start("x")
		k.wait("x")
		mark("5exec")
		k.kill("", 9)
		k.wait("")
		mark("6kill")
		ctx := k.ctx
		k.api.Delete(ctx, &taskapi.DeleteRequest{ID: k.id})
		mark("7delete")
		k.api.Shutdown(ctx, &taskapi.ShutdownRequest{ID: k.id})
		k.deleted = true
		k.awaitGone(shim.Pid)
		mark("8gone")
		all[i%len(bins)] = append(all[i%len(bins)], r)
	}
	for i, rows := range all {
		fmt.Println("==>", bins[i])
		var keys []string
		for k := range rows[0] {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		prev := 0.0
		for _, k := range keys {
			var v []float64
			for _, r := range rows {
				v = append(v, r[k])
			}
			slices.Sort(v)
			med := v[len(v)/2]
			if strings.HasPrefix(k, "cpu") {
				fmt.Printf("%-14s med %.3f ms (+%.3f)\n", k, med, med-prev)
				prev = med
			} else {
				fmt.Printf("%-14s med %.3f ms min %.3f\n", k, med, v[0])
			}
		}
	}
	fmt.Println("threads", threads)
}
