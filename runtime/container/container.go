// Package container runs OCI bundles: it creates, starts, signals, pauses and
// deletes containers, and keeps what it must know of each in
// <root>/<id>/state.json.
//
// Creating a container clones a child of the calling process, which stays its
// parent. The package never reaps a process that it has handed out; when Create
// or Exec fails it reaps its own child by pidfd.
//
// A Container may be used by several goroutines, and one container by several
// processes. Starts wait for one another, by a lock on the state directory;
// nothing else waits, so that a container whose start hangs in a hook can be
// killed and deleted.
//
// Create, Start and Exec note their hops, and their child's down to each system
// call, where the context asks for it; see package hop.
package container

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup"
	"gantry/runtime/program"
	"gantry/runtime/rootfs"
)

// Mount is one mount of the container's root.
type Mount = rootfs.Mount

// CreateOptions says what to create and with which files.
type CreateOptions struct {
	ID     string
	Bundle string      // directory of config.json; relative root paths are relative to it
	Root   string      // directory of all state directories, such as /run/grun
	Spec   *specs.Spec // nil: Bundle/config.json
	Config []byte      // the JSON that Spec was read from, if it has not been changed since
	Rootfs []Mount     // the container's root, mounted in its own mount namespace; none: Spec.Root.Path is ready

	// Stdin, Stdout and Stderr stay the caller's; nil is /dev/null. Ignored with
	// process.terminal.
	Stdin, Stdout, Stderr *os.File
	ExtraFiles            []*os.File // file descriptors 3 and up of the process

	Warn          func(msg string) // told what was clamped or left out; may be nil
	Rootless      bool             // pass over cgroups that may not be written, with a warning for each limit
	SystemdCgroup bool             // linux.cgroupsPath is "slice:prefix:name"
	NoPivot       bool             // move the root mount instead of pivot_root, for an initramfs
	NoNewKeyring  bool             // keep the caller's session keyring
	Notify        bool             // make NotifyDir, which a mount of the spec may show to the container
	OOMScoreAdj   *int             // used when the spec names none: what the caller had before it changed its own
}

// NotifyDir is a directory beside the state of a container, gone with it.
func NotifyDir(root, id string) string { return filepath.Join(root, id, notifyName) }

// Container is a created container, by this process or another.
type Container struct {
	root string
	id   string

	mu      sync.Mutex
	rec     record          // guarded by mu
	pidfd   *os.File        // guarded by mu; nil when the process was gone at Load
	cg      *cgroup.Manager // guarded by mu; nil until it is first asked for
	console *os.File        // set by Create only
	warn    func(string)
	filter  func() (filter, error) // see compiler

	timeline *program.Timeline // of the init's program between Create and Start, when its hops are wanted; guarded by mu
}

// takeTimeline returns the timeline, once; the caller closes it.
func (c *Container) takeTimeline() *program.Timeline {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.timeline
	c.timeline = nil
	return t
}

// ID is the container's name, unique within its root.
func (c *Container) ID() string { return c.id }

// Pid is the process id of the container's init in our pid namespace, also
// after it has ended.
func (c *Container) Pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Pid
}

// PidFD refers to the container's init; it stays the container's and becomes
// readable when the init ends. Nil for a loaded container whose init was gone.
func (c *Container) PidFD() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pidfd
}

// Console is the master of the init's terminal after Create with
// process.terminal, else nil. The caller owns it.
func (c *Container) Console() *os.File { return c.console }

// ExecOptions says what to run beside the init.
type ExecOptions struct {
	Process               *specs.Process
	Stdin, Stdout, Stderr *os.File // as in CreateOptions
	ExtraFiles            []*os.File
	Warn                  func(msg string)
	OOMScoreAdj           *int

	// Cgroup names a cgroup below the container's own that the process is to be in
	// instead: by controller on v1, or one for all under "". It must exist. Nil is
	// the container's own, or the init's where that takes no processes.
	Cgroup map[string]string

	// Subreaper makes the process the parent of those that its descendants leave
	// behind, so that as long as it lives all that it began can be found below it.
	Subreaper bool

	// IgnorePaused lets the call wait, until the container is resumed, where it
	// would refuse a paused one.
	IgnorePaused bool

	// Console is given the terminal's master, which is not its, before the process
	// runs; may be nil.
	Console func(master *os.File) error
}

// Process is a further process of a container, already running. The caller
// reaps it and owns the files.
type Process struct {
	Pid     int
	PidFD   *os.File
	Console *os.File // nil without a terminal
}

// Created is when the container was created.
func (c *Container) Created() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec.Created
}
