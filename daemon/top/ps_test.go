package top_test

import (
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/daemon/top"
)

// TestLikePs compares layouts with those of procps for a process that rests.
func TestLikePs(t *testing.T) {
	ps, err := exec.LookPath("ps")
	if err != nil {
		t.Skip("needs ps to compare with")
	}
	if out, _ := exec.Command(ps, "--version").Output(); !strings.Contains(string(out), "procps") {
		t.Skipf("needs ps of procps: %s", out)
	}
	sleeper := exec.Command("sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sleeper.Process.Kill(); sleeper.Wait() })
	time.Sleep(50 * time.Millisecond)
	name := func(id uint32) string {
		u, err := user.LookupId(strconv.Itoa(int(id)))
		if err != nil {
			return strconv.Itoa(int(id))
		}
		return u.Username
	}
	for _, args := range []string{
		"-ef", "-f", "-e", "aux", "-F", "-l", "-j", "-o pid,user,group,comm,args", "-o pid,ppid,pgid,sid,tty,stat,s", "-o pid,ni,pri,nlwp,psr,vsz,rss",
		"-eo pid,uid,gid,ruid,rgid,euser,ruser", "-o pid,etime,time,stime", "-o pid,start,lstart", "u", "x", "-o pid,wchan:20,cmd", "-eo pid:8,args", "axo pid,cmd", "-A -o pid -o comm",
	} {
		out, err := exec.Command(ps, append(strings.Fields(args), "-q"+strconv.Itoa(sleeper.Process.Pid))...).Output()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err != nil || len(lines) != 2 {
			t.Fatalf("ps %s: %v: %s", args, err, out)
		}
		boot := top.BootTime()
		p, err := top.Read(sleeper.Process.Pid, boot)
		if err != nil {
			t.Fatal(err)
		}
		got, err := top.Table(args, []top.Process{p}, top.Host{Boot: boot, Now: time.Now(), Memory: 1 << 40, User: name, Group: name})
		if err != nil {
			t.Errorf("%s: %v, and ps has\n%s", args, err, out)
			continue
		}
		if titles := strings.Join(got.Titles, " "); titles != strings.Join(strings.Fields(lines[0]), " ") {
			t.Errorf("%s: titles\n%s\nof ps\n%s", args, titles, lines[0])
		}
		if row := strings.Join(got.Processes[0], " "); row != strings.Join(strings.Fields(lines[1]), " ") {
			t.Errorf("%s: row\n%s\nof ps\n%s", args, row, lines[1])
		}
	}
}
