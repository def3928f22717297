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
		var differs string
		for range 3 { // a second may pass between the two looks
			if differs = likePs(t, ps, args, sleeper.Process.Pid, name); differs == "" {
				break
			}
		}
		if differs != "" {
			t.Errorf("%s: %s", args, differs)
		}
	}
}

// likePs says in what our table of one process is not that of ps.
func likePs(t *testing.T, ps, args string, pid int, name func(uint32) string) string {
	t.Helper()
	out, err := exec.Command(ps, append(strings.Fields(args), "-q"+strconv.Itoa(pid))...).Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 {
		t.Fatalf("ps %s: %v: %s", args, err, out)
	}
	boot := top.BootTime()
	p, err := top.Read(pid, boot)
	if err != nil {
		t.Fatal(err)
	}
	got, err := top.Table(args, []top.Process{p}, top.Host{Boot: boot, Now: time.Now(), Memory: 1 << 40, User: name, Group: name})
	if err != nil {
		return err.Error()
	}
	for i, ours := range [][]string{got.Titles, got.Processes[0]} {
		if theirs := strings.Fields(lines[i]); strings.Join(ours, " ") != strings.Join(theirs, " ") {
			return strings.Join(ours, " ") + "\nof ps\n" + lines[i]
		}
	}
	return ""
}
