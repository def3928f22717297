package systemd

import "testing"

// FuzzSpec: what a spec's author writes breaks nothing.
func FuzzSpec(f *testing.F) {
	f.Add("system.slice:docker:abc", "TimeoutStopSec", "uint32 5", "0-3,7")
	f.Add("a-b.slice::x.slice", "CollectMode", "'inactive'", "")
	f.Add("::", "DeviceAllow", "[('/dev/null', 'rw')]", "1,,2-1")
	f.Add("-.slice:x:y", "X", "{'a': <1>}", "99999999999")
	f.Add("", "Env", "@as []", "-")
	f.Fuzz(func(t *testing.T, path, name, value, list string) {
		if u, err := ParsePath(path, "id", false); err == nil {
			if at, err := u.Path(); err != nil || at == "" || at[0] != '/' {
				t.Errorf("%q: %+v at %q: %v", path, u, at, err)
			}
		}
		_, _ = Annotations(map[string]string{annotationPrefix + name: value})
		if set, err := Bits(list); err == nil && len(set) > maxBit/8 {
			t.Errorf("%q: %d bytes", list, len(set))
		}
	})
}
