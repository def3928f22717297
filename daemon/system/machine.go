package system

import (
	"bufio"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// osRelease is what os-release(5) says.
type osRelease struct{ name, version string }

func readOS() osRelease {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		return parseOSRelease(f)
	}
	return osRelease{}
}

// parseOSRelease knows quotes but no escapes, which no name in use has.
func parseOSRelease(r io.Reader) osRelease {
	out := osRelease{name: "Linux"} // the default that os-release(5) gives
	for sc := bufio.NewScanner(r); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), "=")
		value = strings.Trim(value, `"' `)
		switch {
		case key == "PRETTY_NAME" && value != "":
			out.name = value
		case key == "VERSION_ID":
			out.version = value
		}
	}
	return out
}

// Machine is what is told of the host's system.
type Machine struct{ Architecture, Kernel, OS, OSType, OSVersion string }

// ThisMachine describes the host.
func ThisMachine() Machine {
	os := readOS()
	return Machine{Architecture: machine(), Kernel: kernelRelease(), OS: os.name, OSType: runtime.GOOS, OSVersion: os.version}
}

func hostName() string {
	name, _ := os.Hostname()
	return name
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// machine is the kernel's name of the processor, "x86_64".
func machine() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}
