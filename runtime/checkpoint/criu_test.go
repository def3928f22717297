package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"
)

// TestMain is also the fake criu: this binary under that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName {
		os.Exit(fake(os.Getenv("FAKE_CRIU")))
	}
	os.Exit(m.Run())
}

// fakeCRIU puts a criu into PATH that behaves in a certain way.
func fakeCRIU(t *testing.T, how string) {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, programName)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("FAKE_CRIU", how)
}

// fake answers one request on descriptor 3.
func fake(how string) int {
	f := os.NewFile(3, "socket")
	c, err := net.FileConn(f)
	if err != nil {
		return 9
	}
	f.Close()
	conn := c.(*net.UnixConn)
	hear := func() *rpc.CriuReq {
		buf := make([]byte, maxMessage)
		n, err := conn.Read(buf)
		req := &rpc.CriuReq{}
		if err != nil || req.UnmarshalVT(buf[:n]) != nil {
			os.Exit(8)
		}
		return req
	}
	say := func(r *rpc.CriuResp, oob []byte) {
		b, err := r.MarshalVT()
		if err != nil {
			os.Exit(7)
		}
		conn.WriteMsgUnix(b, oob, nil)
	}
	notify := func(script string, oob []byte) bool {
		say(&rpc.CriuResp{Type: ptr(rpc.CriuReqType_NOTIFY), Success: ptr(true),
			Notify: &rpc.CriuNotify{Script: &script, Pid: ptr(int32(42))}}, oob)
		return hear().GetNotifySuccess()
	}
	req := hear()
	resp := &rpc.CriuResp{Type: req.Type, Success: ptr(true)}
	switch how {
	case "version 3.17.1":
		resp.Version = &rpc.CriuVersion{MajorNumber: ptr(int32(3)), MinorNumber: ptr(int32(17)), Sublevel: ptr(int32(1))}
	case "version 3.17 git":
		resp.Version = &rpc.CriuVersion{MajorNumber: ptr(int32(3)), MinorNumber: ptr(int32(17)), Gitid: ptr("v3.17-9")}
	case "no memory tracking":
		resp.Features = &rpc.CriuFeatures{MemTrack: ptr(false), LazyPages: ptr(true)}
	case "steps":
		r, w, _ := os.Pipe()
		w.WriteString("through")
		w.Close()
		ok := notify("pre-dump", nil) && notify("orphan-pts-master", unix.UnixRights(int(r.Fd())))
		r.Close()
		resp.Success = &ok
	case "refuses":
		resp.Success, resp.CrErrno = ptr(false), ptr(int32(22))
		say(resp, nil)
		return 1
	case "dies":
		return 1
	case "hangs":
		time.Sleep(time.Hour)
	case "ends badly":
		say(resp, nil)
		return 1
	case "other answer":
		resp.Type = ptr(rpc.CriuReqType_CHECK)
	}
	say(resp, nil)
	return 0
}

func TestNoProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := version(t.Context())
	if want := `CRIU version check failed: exec: "criu": executable file not found in $PATH`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestVersion(t *testing.T) {
	for how, want := range map[string]int{"version 3.17.1": 31701, "version 3.17 git": 31800} {
		fakeCRIU(t, how)
		if got, err := version(t.Context()); got != want || err != nil {
			t.Errorf("%s: %d, %v; want %d", how, got, err, want)
		}
	}
	if err := atLeast(29999, versionRPC); err == nil || err.Error() != "CRIU version 29999 must be 30000 or higher" {
		t.Error(err)
	}
}

func TestFeatures(t *testing.T) {
	fakeCRIU(t, "no memory tracking")
	if err := checkFeatures(t.Context(), false, true); err != nil {
		t.Error(err)
	}
	if err := checkFeatures(t.Context(), true, true); err == nil || !strings.Contains(err.Error(), "[MemTrack]") {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir()) // not even asked
	if err := checkFeatures(t.Context(), false, false); err != nil {
		t.Error(err)
	}
}

// ask makes a dump request of a fake.
func ask(ctx context.Context, t *testing.T, how string, on heed) error {
	t.Helper()
	fakeCRIU(t, how)
	c, err := start()
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ask(ctx, &rpc.CriuReq{Type: ptr(rpc.CriuReqType_DUMP), Opts: &rpc.CriuOpts{ImagesDirFd: ptr(int32(-1))}}, on)
	return err
}

func TestNotifications(t *testing.T) {
	var steps []string
	err := ask(t.Context(), t, "steps", func(script string, pid int, file *os.File) error {
		text := make([]byte, 100)
		n := 0
		if file != nil {
			n, _ = file.Read(text)
			file.Close()
		}
		steps = append(steps, fmt.Sprint(script, pid, string(text[:n])))
		return nil
	})
	if want := []string{"pre-dump42", "orphan-pts-master42through"}; err != nil || !slices.Equal(steps, want) {
		t.Errorf("%q, %v; want %q", steps, err, want)
	}
	bad := errors.New("bad")
	if err := ask(t.Context(), t, "steps", func(string, int, *os.File) error { return bad }); !errors.Is(err, bad) {
		t.Errorf("%v, want the error of our part", err)
	}
}

func TestFailures(t *testing.T) {
	for how, want := range map[string]string{
		"refuses":      "criu failed: type DUMP errno 22",
		"dies":         "criu has ended without an answer",
		"ends badly":   "criu DUMP: exit status 1",
		"other answer": "criu answers CHECK when asked for DUMP",
		"steps":        "criu notifies without being asked to",
	} {
		if err := ask(t.Context(), t, how, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", how, err, want)
		}
	}
}

func TestEndOfContextKills(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := ask(ctx, t, "hangs", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
