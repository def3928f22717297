package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/pflag"

	"gantry/runtime/container"
	"gantry/runtime/validate"
)

// launchFlags are shared by create and run.
type launchFlags struct {
	bundle, consoleSocket, pidfdSocket, pidFile string
	noPivot, noNewKeyring                       bool
	preserveFDs                                 int

	// make makes the container; nil is createInit.
	make func(context.Context, container.CreateOptions) (*container.Container, error)
}

func (l *launchFlags) declare(f *pflag.FlagSet) {
	f.StringVarP(&l.bundle, "bundle", "b", ".", "directory of config.json")
	f.StringVar(&l.consoleSocket, "console-socket", "", "unix socket that gets the terminal's master")
	f.StringVar(&l.pidfdSocket, "pidfd-socket", "", "unix socket that gets a descriptor of the process")
	f.StringVar(&l.pidFile, "pid-file", "", "file to write the process id to")
	f.BoolVar(&l.noPivot, "no-pivot", false, "move the root mount instead of pivot_root, for a root on an initramfs")
	f.BoolVar(&l.noNewKeyring, "no-new-keyring", false, "keep the caller's session keyring")
	f.IntVar(&l.preserveFDs, "preserve-fds", 0, "hand N more descriptors to the process, from 3 up")
}

var (
	errConsoleWanted   = errors.New("cannot allocate tty if grun will detach without setting console socket")
	errConsoleUnwanted = errors.New("cannot use console socket if grun will not detach or allocate tty")
)

// checkConsole says whether a console socket is there if and only if someone
// else is to have the terminal.
func checkConsole(terminal, detach bool, socket string) error {
	switch {
	case terminal && detach && socket == "":
		return errConsoleWanted
	case socket != "" && !(terminal && detach):
		return errConsoleUnwanted
	}
	return nil
}

// create makes the container; stdio is ours or the given one. With a console
// socket the terminal has gone there when it returns.
func (l *launchFlags) create(ctx context.Context, r *request, id string, detach bool, io stdio) (*container.Container, error) {
	if err := validate.ID(id); err != nil {
		return nil, err
	}
	bundle, spec, raw, err := loadBundle(l.bundle)
	if err != nil {
		return nil, err
	}
	if err := checkConsole(spec.Process != nil && spec.Process.Terminal, detach, l.consoleSocket); err != nil {
		return nil, err
	}
	if spec.Process == nil {
		return nil, errors.New("process property must not be empty")
	}
	n, env := listening()
	files, err := preserved(n, l.preserveFDs)
	if err != nil {
		return nil, err
	}
	if len(env) > 0 {
		spec.Process.Env = append(spec.Process.Env, env...)
		raw = nil
	}
	notify := os.Getenv("NOTIFY_SOCKET") != ""
	if notify {
		showNotifySocket(spec, container.NotifyDir(r.global.root, id))
		raw = nil // it is not the file any more
	}
	return l.createWith(ctx, container.CreateOptions{
		ID: id, Bundle: bundle, Root: r.global.root, Spec: spec, Config: raw, Rootless: r.global.isRootless(),
		Stdin: io.in, Stdout: io.out, Stderr: io.err, ExtraFiles: files, Warn: r.log.warn,
		SystemdCgroup: r.global.systemdCgroup, NoPivot: l.noPivot, NoNewKeyring: l.noNewKeyring, Notify: notify,
	})
}

func (l *launchFlags) createWith(ctx context.Context, o container.CreateOptions) (_ *container.Container, err error) {
	console, err := dial(l.consoleSocket)
	if err != nil {
		return nil, err
	}
	defer closeConn(console)
	pidfd, err := dial(l.pidfdSocket)
	if err != nil {
		return nil, err
	}
	defer closeConn(pidfd)
	make := l.make
	if make == nil {
		make = createInit
	}
	c, err := make(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.Delete(context.WithoutCancel(ctx), true)
		}
	}()
	if console != nil {
		defer closeFile(c.Console())
	}
	return c, errors.Join(sendConsole(console, c.Console()), send(pidfd, "standard", c.PidFD()), writePid(l.pidFile, c.Pid()))
}

func createInit(ctx context.Context, o container.CreateOptions) (*container.Container, error) {
	c, err := container.Create(ctx, o)
	if err != nil {
		return nil, initError(err)
	}
	return c, nil
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
