package main

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/spf13/pflag"

	"gantry/runtime/container"
	"gantry/runtime/validate"
)

// launchFlags are shared by create and run.
type launchFlags struct {
	bundle, consoleSocket, pidFile string
	noPivot, noNewKeyring          bool
	preserveFDs                    int
}

func (l *launchFlags) declare(f *pflag.FlagSet) {
	f.StringVarP(&l.bundle, "bundle", "b", ".", "directory of config.json")
	f.StringVar(&l.consoleSocket, "console-socket", "", "unix socket that gets the terminal's master")
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
	bundle, spec, err := loadBundle(l.bundle)
	if err != nil {
		return nil, err
	}
	if err := checkConsole(spec.Process != nil && spec.Process.Terminal, detach, l.consoleSocket); err != nil {
		return nil, err
	}
	files, env, err := preservedFiles(l.preserveFDs)
	if err != nil {
		return nil, err
	}
	if spec.Process != nil {
		spec.Process.Env = append(spec.Process.Env, env...)
	}
	return l.createWith(ctx, r, container.CreateOptions{
		ID: id, Bundle: bundle, Root: r.global.root, Spec: spec, Rootless: r.global.isRootless(),
		Stdin: io.in, Stdout: io.out, Stderr: io.err, ExtraFiles: files, Warn: r.log.warn,
		SystemdCgroup: r.global.systemdCgroup, NoPivot: l.noPivot, NoNewKeyring: l.noNewKeyring,
	})
}

func (l *launchFlags) createWith(ctx context.Context, r *request, o container.CreateOptions) (_ *container.Container, err error) {
	var conn *net.UnixConn
	if l.consoleSocket != "" {
		if conn, err = dialConsole(l.consoleSocket); err != nil {
			return nil, err
		}
		defer conn.Close()
	}
	c, err := container.Create(ctx, o)
	if err != nil {
		return nil, initError(err)
	}
	defer func() {
		if err != nil {
			c.Delete(context.WithoutCancel(ctx), true)
		}
	}()
	if conn != nil {
		defer closeFile(c.Console())
		if err := sendConsole(conn, c.Console()); err != nil {
			return nil, err
		}
	}
	return c, writePid(l.pidFile, c.Pid())
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}
