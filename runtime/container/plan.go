package container

import (
	"path/filepath"

	"gantry/runtime/plan"
	"gantry/runtime/program"
)

// Plan is the program that Create would run, for reading; nothing is made. What
// Create would open or clamp is looked up as it would, so that warnings go to
// o.Warn.
func Plan(o CreateOptions) (_ *program.Program, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	bundle, err := filepath.Abs(o.Bundle)
	if err != nil {
		return nil, err
	}
	k := &creation{CreateOptions: o}
	k.Spec = normal(o.Spec, bundle)
	k.filter = compiler(k.Spec.Linux.Seccomp)
	if k.cg, err = k.newCgroup(); err != nil {
		return nil, err
	}
	po, err := k.planOptions()
	if err != nil {
		return nil, err
	}
	unified, dirs := unifiedDir(k.cg), map[string]bool{}
	for _, p := range k.cg.Paths() {
		if p != unified {
			dirs[p] = true
		}
	}
	po.Tasks, po.Cgroup = len(dirs), unified != ""
	if r := k.Spec.Linux.IntelRdt; r != nil {
		po.Groups = 1
		if r.EnableMonitoring {
			po.Groups++
		}
	}
	return plan.Create(k.Spec, po)
}
