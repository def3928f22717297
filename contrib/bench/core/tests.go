package main

import "time"

// tests are in the order in which they run: memory first, while the daemons are fresh.
func tests(o options) []test {
	return []test{
		memory(o), withProgram(o),
		{name: "core_task", about: "create, start, wait and delete of a task; around it its container", cost: 1, rep: lifeCycle("")},
		{name: "core_runc_shim", about: "the same, in runc's own shim", cost: 2, rep: lifeCycle(o.RuncShim)},
		parallel(o), counts(o), listImages(o), listContainers(o), unpacking(o),
	}
}

func ms(began time.Time) float64 { return float64(time.Since(began)) / 1e6 }
