package checkpoint_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/daemon/checkpoint"
)

func below(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// made makes a whole checkpoint.
func made(t *testing.T, d checkpoint.Dir, id string) {
	t.Helper()
	draft, err := d.Draft(id)
	if err == nil {
		err = draft.Make()
	}
	if err == nil && draft.Whole() {
		t.Error("whole before anything is written")
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(draft.Path(), "inventory.img"), nil, 0o600)
	}
	if err == nil && !draft.Whole() {
		t.Error("not whole")
	}
	if err == nil {
		err = draft.Keep()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLife(t *testing.T) {
	d := checkpoint.Dir{Path: filepath.Join(t.TempDir(), "to", "be", "made"), Container: "web"}
	if names, err := d.List(); err != nil || names != nil {
		t.Errorf("without a directory: %v, %v", names, err)
	}
	made(t, d, "c2")
	made(t, d, "c1")
	if names, err := d.List(); err != nil || strings.Join(names, " ") != "c1 c2" {
		t.Errorf("list: %v, %v", names, err)
	}
	if path, err := d.Find("c1"); err != nil || path != filepath.Join(d.Path, "c1") {
		t.Errorf("find: %s, %v", path, err)
	}
	if err := d.Remove("c1"); err != nil {
		t.Error(err)
	}
	if got := below(t, d.Path); got != "c2" {
		t.Errorf("left: %s", got)
	}
	draft, err := d.Draft("c3")
	if err != nil {
		t.Fatal(err)
	}
	if err := draft.Make(); err != nil {
		t.Fatal(err)
	}
	if names, _ := d.List(); strings.Join(names, " ") != "c2" {
		t.Errorf("a draft is listed: %v", names)
	}
	if err := draft.Discard(); err != nil {
		t.Error(err)
	}
	if got := below(t, d.Path); got != "c2" {
		t.Errorf("left: %s", got)
	}
	if err := draft.Make(); err != nil {
		t.Fatal(err)
	}
	if err := d.Sweep(); err != nil {
		t.Error(err)
	}
	if got := below(t, d.Path); got != "c2" {
		t.Errorf("swept: %s", got)
	}
}

// TestRace: of two that write the same one the later is told, and its draft can go.
func TestRace(t *testing.T) {
	d := checkpoint.Dir{Path: t.TempDir(), Container: "web"}
	draft, err := d.Draft("c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := draft.Make(); err != nil {
		t.Fatal(err)
	}
	made(t, d, "c1")
	if err := draft.Keep(); err == nil || err.Error() != "checkpoint with name c1 already exists for container web" {
		t.Errorf("keep: %v", err)
	}
	if err := draft.Discard(); err != nil || below(t, d.Path) != "c1" {
		t.Errorf("discard: %v, left %s", err, below(t, d.Path))
	}
}

// TestHostile: no name leads out of the directory, and no link there.
func TestHostile(t *testing.T) {
	top := t.TempDir()
	d := checkpoint.Dir{Path: filepath.Join(top, "checkpoints"), Container: "web"}
	secret := filepath.Join(top, "secret")
	for _, dir := range []string{d.Path, filepath.Join(secret, "deep")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink(secret, filepath.Join(d.Path, "link"))
	os.WriteFile(filepath.Join(d.Path, "file"), nil, 0o600)
	for _, id := range []string{"", ".", "..", "../secret", "/etc", "a/b", ".hidden-1", "a\x00b", strings.Repeat("a", 300), "link", "file", "link/deep"} {
		if _, err := d.Find(id); err == nil {
			t.Errorf("found %q", id)
		}
		if err := d.Remove(id); err == nil {
			t.Errorf("removed %q", id)
		}
		if _, err := d.Draft(id); err == nil {
			t.Errorf("a draft of %q", id)
		}
	}
	if names, err := d.List(); err != nil || names != nil {
		t.Errorf("listed: %v, %v", names, err)
	}
	made(t, d, "c1")
	os.Symlink(secret, filepath.Join(d.Path, "c1", "out"))
	if err := d.Remove("c1"); err != nil {
		t.Error(err)
	}
	if below(t, d.Path) != "file link" || below(t, secret) != "deep" {
		t.Errorf("left: %s; %s", below(t, d.Path), below(t, secret))
	}
}

func TestNote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "note")
	if _, ok, err := checkpoint.LoadNote(path); ok || err != nil {
		t.Errorf("without one: %v, %v", ok, err)
	}
	draft, err := checkpoint.Dir{Path: "/somewhere", Container: "web"}.Draft("c1")
	if err != nil {
		t.Fatal(err)
	}
	want := checkpoint.Note{Draft: draft, Exit: true}
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := checkpoint.LoadNote(path); got != want || !ok || err != nil {
		t.Errorf("%+v, %v, %v, want %+v", got, ok, err, want)
	}
	for _, bad := range []string{"", "{", "{}", `{"Draft":{"Dir":{"Path":"/"},"ID":"c1","Name":"etc"}}`,
		`{"Draft":{"Dir":{"Path":"/x"},"ID":"c1","Name":"../etc"}}`, `{"Draft":{"Dir":{"Path":"/x"},"ID":"c1","Name":".."}}`,
		`{"Draft":{"Dir":{"Path":"x"},"ID":"c1","Name":".c1-1"}}`, `{"Draft":{"Dir":{"Path":"/x"},"ID":"..","Name":".c1-1"}}`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, ok, err := checkpoint.LoadNote(path); ok || err == nil {
			t.Errorf("%s: %+v", bad, n)
		}
	}
}
