package container_test

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"

	mobyseccomp "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestSeccompActions: what the kernel makes of each action, once the container runs.
func TestSeccompActions(t *testing.T) {
	const killed = "159\n" // 128 and SIGSYS
	errno := uint(unix.EDQUOT)
	for _, c := range []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   string
	}{
		{specs.ActErrno, nil, "mkdir: can't create directory '/x': Operation not permitted\n1\n"},
		{specs.ActErrno, &errno, "mkdir: can't create directory '/x': Disk quota exceeded\n1\n"},
		{specs.ActTrace, nil, "mkdir: can't create directory '/x': Function not implemented\n1\n"}, // nobody traces
		{specs.ActTrap, nil, "Bad system call\n" + killed},
		{specs.ActKill, nil, "Bad system call\n" + killed},
		{specs.ActKillThread, nil, "Bad system call\n" + killed},
		{specs.ActKillProcess, nil, "Bad system call\n" + killed},
		{specs.ActLog, nil, "0\n"},
		{specs.ActAllow, nil, "0\n"},
	} {
		t.Run(string(c.action), func(t *testing.T) {
			b := newBed(t)
			s := b.spec("sh", "-c", "busybox mkdir /x; echo $?")
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow,
				Flags:    []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat", "no_such_call"}, Action: c.action, ErrnoRet: c.errno}}}
			if c.action == specs.ActAllow {
				s.Linux.Seccomp.DefaultAction, s.Linux.Seccomp.Flags = specs.ActLog, nil
			}
			if out, _ := b.run(s); out != c.want {
				t.Errorf("output %q, want %q", out, c.want)
			}
		})
	}
}

// elf32 is a static program for i386 that makes the directory /x and exits with the errno.
func elf32() []byte {
	const base, header = 0x08048000, 52 + 32
	code := []byte{
		0xb8, 39, 0, 0, 0, // mov eax, mkdir
		0xbb, 0, 0, 0, 0, // mov ebx, path
		0xb9, 0xed, 1, 0, 0, // mov ecx, 0755
		0xcd, 0x80, // int 0x80
		0xf7, 0xd8, // neg eax
		0x89, 0xc3, // mov ebx, eax
		0xb8, 1, 0, 0, 0, // mov eax, exit
		0xcd, 0x80,
	}
	size := uint32(header + len(code) + 3)
	binary.LittleEndian.PutUint32(code[6:], base+size-3)
	b := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	half := func(v ...uint16) {
		for _, v := range v {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
	}
	word := func(v ...uint32) {
		for _, v := range v {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
	}
	half(2, 3)                     // an executable, of i386
	word(1, base+header, 52, 0, 0) // version, entry, program headers, none of sections, flags
	half(52, 32, 1, 0, 0, 0)       // sizes and numbers of headers
	word(1, 0, base, base)         // load from 0 to base
	word(size, size, 5, 0x1000)    // all of it, readable and executable
	return append(append(b, code...), "/x\x00"...)
}

// TestSeccompI386: calls of a 32-bit program come by other numbers.
func TestSeccompI386(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64")
	}
	refuse := func(arches ...specs.Arch) *specs.LinuxSeccomp {
		errno := uint(7)
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: arches,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}}
	}
	usual, err := mobyseccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		why     string
		profile *specs.LinuxSeccomp
		status  int
	}{
		{"no filter", nil, 0},
		{"refused as x86", refuse(specs.ArchX86_64, specs.ArchX86, specs.ArchX32), 7},
		{"x86 is not listed", refuse(specs.ArchX86_64), 128 + int(unix.SIGSYS)},
		{"Docker's default profile", usual, 0},
	} {
		b := newBed(t)
		if err := os.WriteFile(b.rootfs()+"/bin/elf32", elf32(), 0o755); err != nil {
			t.Fatal(err)
		}
		s := b.spec("elf32")
		s.Linux.Seccomp = c.profile
		out, status := b.run(s)
		if c.profile == nil && status == 128+int(unix.SIGSEGV) {
			t.Skip("the kernel runs no 32-bit programs")
		}
		if _, err := os.Stat(b.rootfs() + "/x"); (err == nil) != (c.status == 0) || status != c.status {
			t.Errorf("%s: status %d, want %d; directory: %v; %s", c.why, status, c.status, err, out)
		}
	}
}
