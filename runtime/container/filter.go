package container

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/security"
)

// filter is a compiled seccomp profile.
type filter = *security.Filter

// compiler compiles a container's seccomp profile when it is first called: all its
// processes get the same filter.
func compiler(s *specs.LinuxSeccomp) func() (filter, error) {
	return sync.OnceValues(func() (filter, error) { return compileFilter(s) })
}

func compileFilter(s *specs.LinuxSeccomp) (filter, error) {
	f, err := security.Seccomp(s)
	if err == nil && len(f.Notify) > 0 && s.ListenerPath == "" {
		return nil, fmt.Errorf("seccomp listenerPath is not set: %w", errdefs.ErrInvalidArgument)
	}
	return f, err
}

const (
	filterName = "seccomp.bpf"
	// filterMagic begins the file; its number is that of the compiler, to be raised when it
	// makes other filters.
	filterMagic = "gantry\x00\x01"
	maxFilter   = 4096 // instructions, the kernel's bound
)

// keptCompiler is compiler for who has not created the container: what was compiled for
// one exec is kept beside the record for the next, as flags and instructions. A filter
// with a listener is not.
func keptCompiler(dir string, s *specs.LinuxSeccomp) func() (filter, error) {
	if s == nil {
		return compiler(s)
	}
	path := filepath.Join(dir, filterName)
	return sync.OnceValues(func() (filter, error) {
		if b, err := os.ReadFile(path); err == nil {
			if f := decodeFilter(b); f != nil {
				return f, nil
			}
		}
		f, err := compileFilter(s)
		if err == nil && len(f.Notify) == 0 && len(f.Warnings) == 0 {
			keepFilter(path, f)
		}
		return f, err
	})
}

// keepFilter is no duty: an error costs the next one the time to compile.
func keepFilter(path string, f filter) {
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(tmp, encodeFilter(f), 0o600); err == nil {
		err = os.Rename(tmp, path)
		if err == nil {
			return
		}
	}
	os.Remove(tmp)
}

func encodeFilter(f filter) []byte {
	b := binary.NativeEndian.AppendUint64([]byte(filterMagic), uint64(f.Flags))
	for _, i := range f.Program {
		b = binary.NativeEndian.AppendUint16(b, i.Code)
		b = append(b, i.Jt, i.Jf)
		b = binary.NativeEndian.AppendUint32(b, i.K)
	}
	return b
}

// decodeFilter gives nil for what encodeFilter has not made.
func decodeFilter(b []byte) filter {
	b, ok := bytes.CutPrefix(b, []byte(filterMagic))
	n := len(b)/8 - 1
	if !ok || len(b)%8 != 0 || n < 1 || n > maxFilter {
		return nil
	}
	f := &security.Filter{Flags: uint(binary.NativeEndian.Uint64(b)), Program: make([]unix.SockFilter, n)}
	for i := range f.Program {
		at := b[8+8*i:]
		f.Program[i] = unix.SockFilter{Code: binary.NativeEndian.Uint16(at), Jt: at[2], Jf: at[3], K: binary.NativeEndian.Uint32(at[4:])}
	}
	return f
}
