package seccomp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const liveEnv = "GANTRY_SECCOMP_LIVE"

func TestMain(m *testing.M) {
	if os.Getenv(liveEnv) != "" {
		confined()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestLive runs a process under the default profile in the real kernel.
func TestLive(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), liveEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "write ok\nunshare operation not permitted\nkeyctl operation not permitted\n" +
		"vsock operation not permitted\nunix socket ok\nclone3 function not implemented\n" +
		"unknown function not implemented\nexec'd\n"
	if got := string(out); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func confined() {
	runtime.LockOSThread()
	var t testing.T
	f, err := Compile(defaultProfile(&t))
	if err == nil {
		err = install(f)
	}
	if err != nil {
		fmt.Println("install:", err)
		os.Exit(1)
	}
	say := func(what string, errno unix.Errno) {
		if errno == 0 {
			fmt.Println(what, "ok")
			return
		}
		fmt.Println(what, strings.ToLower(errno.Error()))
	}
	say("write", 0)
	_, _, e := unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUTS, 0, 0)
	say("unshare", e)
	_, _, e = unix.RawSyscall(unix.SYS_KEYCTL, 0, 0, 0)
	say("keyctl", e)
	_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	say("vsock", number0(err))
	_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	say("unix socket", number0(err))
	_, _, e = unix.RawSyscall(unix.SYS_CLONE3, 0, 0, 0)
	say("clone3", e)
	_, _, e = unix.RawSyscall(9999, 0, 0, 0)
	say("unknown", e)
	err = unix.Exec("/bin/sh", []string{"sh", "-c", "echo \"exec'd\""}, []string{})
	fmt.Println("exec", err)
}

func number0(err error) (e unix.Errno) {
	errors.As(err, &e)
	return e
}

// install loads the filter for all threads of this process.
func install(f *Filter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(f.Program)), Filter: &f.Program[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		uintptr(f.Flags|unix.SECCOMP_FILTER_FLAG_TSYNC), uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	return nil
}
