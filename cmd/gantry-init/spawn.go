package main

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// spawn starts the command, found as execvp(3) finds it. Descriptors without
// close-on-exec stay open in it.
func spawn(command []string) (pid int, err error) {
	attr := &syscall.ProcAttr{
		Env:   syscall.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Foreground: ownsTerminal()},
	}
	err = error(unix.ENOENT)
	for _, path := range candidates(command[0]) {
		pid, e := syscall.ForkExec(path, command, attr)
		if e == unix.ENOEXEC {
			pid, e = syscall.ForkExec("/bin/sh", append([]string{"sh", path}, command[1:]...), attr)
		}
		switch {
		case e == nil:
			return pid, nil
		case e == unix.EACCES:
			err = e // goes on looking, but is told in the end
		case e != unix.ENOENT && e != unix.ENOTDIR:
			return 0, e
		}
	}
	return 0, err
}

// candidates are the paths to try for a command's name.
func candidates(name string) (paths []string) {
	if strings.Contains(name, "/") || name == "" {
		return []string{name}
	}
	path, ok := syscall.Getenv("PATH")
	if !ok {
		path = defaultPath
	}
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		paths = append(paths, dir+"/"+name)
	}
	return paths
}

// refused is the status for a command that can't be run, as a shell has it.
func refused(err error) int {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return 127
	}
	return 126
}

// ownsTerminal says whether standard input is our controlling terminal.
func ownsTerminal() bool {
	_, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err == nil
}
