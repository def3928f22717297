//go:build zzshim

package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"
)

func init() {
	if os.Getenv("ZZRATE") != "" {
		runtime.MemProfileRate = 1
	}
	if os.Getenv("ZZFREE") != "" {
		go func() {
			var n int
			fmt.Sscan(os.Getenv("ZZFREE"), &n)
			time.Sleep(800 * time.Millisecond)
			for range n {
				debug.FreeOSMemory()
			}
		}()
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range c {
			if s == syscall.SIGUSR2 {
				f, _ := os.Create("/tmp/gantry/shim/m/heap0")
				pprof.Lookup("heap").WriteTo(f, 0)
				f.Close()
				continue
			}
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			debug.FreeOSMemory()
			runtime.ReadMemStats(&b)
			f, _ := os.Create("/tmp/gantry/shim/m/stats")
			fmt.Fprintf(f, "before inuse %d sys %d alloc %d total %d mallocs %d numgc %d\nafter inuse %d alloc %d released %d idle %d objs %d\nstackinuse %d mspan %d mcache %d gcsys %d other %d goroutines %d pausens %d\n", a.HeapInuse, a.Sys, a.HeapAlloc, a.TotalAlloc, a.Mallocs, a.NumGC, b.HeapInuse, b.HeapAlloc, b.HeapReleased, b.HeapIdle, b.HeapObjects, b.StackInuse, b.MSpanInuse, b.MCacheInuse, b.GCSys, b.OtherSys, runtime.NumGoroutine(), b.PauseTotalNs)
			f.Close()
			f, _ = os.Create("/tmp/gantry/shim/m/goroutines")
			pprof.Lookup("goroutine").WriteTo(f, 1)
			f.Close()
		}
	}()
}
