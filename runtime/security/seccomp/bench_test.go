package seccomp

import "testing"

func BenchmarkDefaultProfile(b *testing.B) {
	s := defaultProfile(b)
	for b.Loop() {
		if _, err := Compile(s); err != nil {
			b.Fatal(err)
		}
	}
}
