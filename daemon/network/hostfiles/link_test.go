package hostfiles

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestLinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte("127.0.0.1\tlocalhost\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	four, six := netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("fd00::2")
	entries := []Entry{{four, []string{"db", "abc", "real"}}, {six, []string{"db", "abc", "real"}}, {four, []string{"dbx\nevil", "abc"}}}
	if err := Add(path, entries); err != nil {
		t.Fatal(err)
	}
	want := func(what string) {
		t.Helper()
		if got, _ := os.ReadFile(path); string(got) != what {
			t.Errorf("got\n%swant\n%s", got, what)
		}
	}
	want("127.0.0.1\tlocalhost\n172.17.0.2\tdb abc real\nfd00::2\tdb abc real\n172.17.0.2\tdbxevil abc\n")
	if err := Readdress(path, "db", []netip.Addr{netip.MustParseAddr("172.17.0.9")}); err != nil {
		t.Fatal(err)
	}
	want("127.0.0.1\tlocalhost\n172.17.0.9\tdb abc real\nfd00::2\tdb abc real\n172.17.0.2\tdbxevil abc\n")
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := Readdress(path, "db", []netip.Addr{four}); err == nil {
		t.Error("a file without an end is read")
	}
	if err := Add(filepath.Join(t.TempDir(), "none"), entries); err == nil {
		t.Error("a file that is not there")
	}
	if err := Add("/none", nil); err != nil {
		t.Errorf("nothing to add: %v", err)
	}
}
