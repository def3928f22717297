package cgroup

import (
	"encoding/binary"
	"reflect"
	"testing"
)

// TestDeviceProgram pins the code of a small filter, byte for byte: the kernel's
// verifier, which the live tests ask, does not say whether it means what we mean.
func TestDeviceProgram(t *testing.T) {
	code, err := deviceProgram([]deviceRule{
		{deviceID{'a', anyNumber, anyNumber}, mayAll, false},
		{deviceID{'c', 1, 3}, mayAll, true},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []insn{
		{0x61, regs(2, 1), 0, 0},      // kind = context.access
		{0xbf, regs(3, 2), 0, 0},      // want = kind
		{0x57, regs(2, 0), 0, 0xffff}, // kind &= 0xffff
		{0x77, regs(3, 0), 0, 16},     // want >>= 16
		{0x61, regs(4, 1), 4, 0},      // major = context.major
		{0x61, regs(5, 1), 8, 0},      // minor = context.minor
		{0x55, regs(2, 0), 4, 2},      // if kind != char goto deny's jump
		{0x55, regs(4, 0), 3, 1},      // if major != 1 …
		{0x55, regs(5, 0), 2, 3},      // if minor != 3 …
		{0x57, regs(3, 0), 0, 0},      // want &= nothing
		{0x15, regs(3, 0), 3, 0},      // if want == 0 goto allow
		{0x05, 0, 0, 0},               // goto deny
		{0xb7, 0, 0, 0}, {0x95, 0, 0, 0},
		{0xb7, 0, 0, 1}, {0x95, 0, 0, 0},
	}
	if !reflect.DeepEqual(code, want) {
		t.Errorf("%v, want %v", code, want)
	}
	if n := binary.Size(insn{}); n != 8 {
		t.Errorf("an instruction has %d bytes", n)
	}
}

func TestJumpToNowhere(t *testing.T) {
	a := newAssembler()
	a.jump(0, 0, 0, "nowhere")
	if _, err := a.link(); err == nil {
		t.Error("linked")
	}
}

func TestPageSize(t *testing.T) {
	for size, good := range map[string]bool{
		"2MB": true, "64KB": true, "1GB": true,
		"": false, "B": false, "MB": false, "0MB": false, "02MB": false, "2M": false, "2B": false, "2KMB": false, "2MBB": false, "-2MB": false,
	} {
		if err := checkPageSize(size); (err == nil) != good {
			t.Errorf("%q: %v", size, err)
		}
	}
}
