package cgroup

import (
	"context"
	"fmt"

	"gantry/runtime/program"
)

// placeholder is a process that does nothing but be in a scope, which can't be made
// or stay empty, until the container's first process is in. It ends with this
// process, should that end first.
type placeholder struct{ proc *program.Process }

func startPlaceholder() (*placeholder, error) {
	p := program.New()
	p.Clone.Signal = 0 // nobody else's to reap
	p.Keep(3)
	p.Label("wait")
	p.Ask('w')
	p.Exit()
	proc, err := program.Start(p, nil)
	if err != nil {
		return nil, fmt.Errorf("start a process for the scope to begin with: %w", err)
	}
	// Once it asks, it holds no descriptor of ours any more.
	if _, err := proc.Next(context.Background()); err != nil {
		proc.Abort()
		return nil, fmt.Errorf("start a process for the scope to begin with: %w", err)
	}
	return &placeholder{proc}, nil
}

func (p *placeholder) pid() int { return p.proc.Pid }

// end ends it and waits for that.
func (p *placeholder) end() { p.proc.Abort() }
