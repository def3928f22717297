package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

//go:generate go run gentable.go

// row is one system call's number on each architecture.
type row struct {
	name string
	nr   [columns]int32
}

// The columns of table.
const (
	colX86_64 = iota
	colX86
	colX32
	colAarch64
	colArm
	colRiscv64
	colLoong64
	colPpc64le
	columns
)

// x32Bit marks x32's numbers; they come in under AUDIT_ARCH_X86_64.
const x32Bit = 0x40000000

// rowsOf finds the rows of the names that table has.
func rowsOf(names []string) []int {
	rows := make([]int, 0, len(names))
	for _, name := range names {
		if i, ok := find(name); ok {
			rows = append(rows, i)
		}
	}
	return rows
}

// find is a binary search by hand: sort's and slices' call a function per step, and a
// start looks for hundreds of names.
func find(name string) (int, bool) {
	low, high := 0, len(table)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if table[mid].name < name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(table) && table[low].name == name
}

// abi is one set of numbers under one audit architecture. All are little-endian,
// which condition relies on. The arguments of narrow ones have 32 bits.
type abi struct {
	audit  uint32
	col    int
	narrow bool
}

// abis are the architectures that can be filtered; others of the spec's names
// are left out with a warning, so that their calls are killed.
var abis = map[specs.Arch]abi{
	specs.ArchX86_64:      {unix.AUDIT_ARCH_X86_64, colX86_64, false},
	specs.ArchX86:         {unix.AUDIT_ARCH_I386, colX86, true},
	specs.ArchX32:         {unix.AUDIT_ARCH_X86_64, colX32, true},
	specs.ArchAARCH64:     {unix.AUDIT_ARCH_AARCH64, colAarch64, false},
	specs.ArchARM:         {unix.AUDIT_ARCH_ARM, colArm, true},
	specs.ArchRISCV64:     {unix.AUDIT_ARCH_RISCV64, colRiscv64, false},
	specs.ArchLOONGARCH64: {unix.AUDIT_ARCH_LOONGARCH64, colLoong64, false},
	specs.ArchPPC64LE:     {unix.AUDIT_ARCH_PPC64LE, colPpc64le, false},
}

// foreign are the spec's names that are valid but have no table here.
var foreign = []specs.Arch{
	specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL,
	specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64,
	specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64,
	specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

var natives = map[string]specs.Arch{
	"amd64": specs.ArchX86_64, "386": specs.ArchX86, "arm64": specs.ArchAARCH64,
	"arm": specs.ArchARM, "riscv64": specs.ArchRISCV64,
	"loong64": specs.ArchLOONGARCH64, "ppc64le": specs.ArchPPC64LE,
}

// Native is the architecture that this program is built for.
func Native() (specs.Arch, error) {
	a, ok := natives[runtime.GOARCH]
	if !ok {
		return "", fmt.Errorf("seccomp on %s: %w", runtime.GOARCH, errdefs.ErrNotImplemented)
	}
	return a, nil
}

// resolve gives the architectures of a profile, native first (it is always in,
// as with libseccomp), each once.
func resolve(native specs.Arch, names []specs.Arch) (as []abi, warnings []string, err error) {
	as = []abi{abis[native]}
	for _, n := range names {
		a, ok := abis[n]
		switch {
		case ok && !slices.Contains(as, a):
			as = append(as, a)
		case ok, n == "SCMP_ARCH_NATIVE":
		case slices.Contains(foreign, n):
			warnings = append(warnings, fmt.Sprintf("seccomp: calls of architecture %s are not filtered but killed", n))
		default:
			return nil, nil, fmt.Errorf("seccomp: unknown architecture %q: %w", n, errdefs.ErrInvalidArgument)
		}
	}
	return as, warnings, nil
}
