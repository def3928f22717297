package hostpath

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/deadmount"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	check := func(t *testing.T) {
		for path, want := range map[string]bool{dir: true, dir + "/link": true, dir + "/none": false, dir + "/none/below": false} {
			if got, err := Exists(ctx, path); got != want || err != nil {
				t.Errorf("%s exists: %v, %v", path, got, err)
			}
		}
		if got, err := Real(ctx, dir+"/link"); got != dir || err != nil {
			t.Errorf("real path %s, %v", got, err)
		}
		made := dir + "/made/" + t.Name()
		for range 2 {
			if err := MakeDir(ctx, made, 0, 0); err != nil {
				t.Error(err)
			}
		}
		if st, err := os.Stat(made); err != nil || !st.IsDir() {
			t.Error(st, err)
		}
		if err := Answers(ctx, made); err != nil {
			t.Error(err)
		}
		if err := MakeDir(ctx, "/proc/self/none", 0, 0); err == nil {
			t.Error("made a directory in /proc")
		}
	}
	t.Run("alone", check)
	m := deadmount.New(t)
	t.Run("beside", check)
	if found, err := Exists(ctx, m.Dir+"/file"); !found || err != nil {
		t.Error(found, err)
	}
	if err := Answers(ctx, m.Dir); err != nil {
		t.Error(err)
	}
	m.Die()
	patience = time.Second
	t.Run("beside a dead one", check)
	for name, f := range map[string]func() error{
		"exists":  func() error { _, err := Exists(ctx, m.Dir+"/file"); return err },
		"make":    func() error { return MakeDir(ctx, m.Dir+"/new", 0, 0) },
		"answers": func() error { return Answers(ctx, m.Dir) },
	} {
		t.Run("dead "+name, func(t *testing.T) {
			if err := f(); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Error(err)
			}
		})
	}
}
