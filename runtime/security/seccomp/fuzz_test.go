package seccomp

import (
	"encoding/json"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// FuzzCompile: any profile gives an error or a program that the kernel would
// take and that means what the profile says.
func FuzzCompile(f *testing.F) {
	whole, err := json.Marshal(defaultProfile(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole, uint32(41), uint64(1), uint64(2))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],"syscalls":[{"names":["read","socket"],
		"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":4294967296,"op":"SCMP_CMP_GT"},{"index":1,"value":3,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}`),
		uint32(x32Bit), uint64(0), uint64(1<<40))
	f.Fuzz(func(t *testing.T, profile []byte, nr uint32, arg0, arg1 uint64) {
		var s specs.LinuxSeccomp
		if json.Unmarshal(profile, &s) != nil {
			return
		}
		for _, native := range []specs.Arch{specs.ArchX86_64, specs.ArchAARCH64} {
			out, err := compile(&s, native)
			if err != nil {
				continue
			}
			p, err := parse(&s)
			if err != nil {
				t.Fatal(err)
			}
			m := load(t, out.Program)
			args := [6]uint64{arg0, arg1, arg0, arg1, arg0, arg1}
			for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64} {
				if got, want := m.run(t, audit, nr, args), model(&s, p, audit, nr, args, native); got != want {
					t.Fatalf("arch %#x: %#x, want %#x", audit, got, want)
				}
			}
		}
	})
}
