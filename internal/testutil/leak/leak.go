// Package leak looks for what an engine on directories of its own may leave behind
// when its containers are gone: mounts, network namespaces, links, cgroups,
// processes, firewall elements and files.
package leak

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// State is a sorted list of things, each a readable line.
type State []string

// Take lists what belongs to the engine on dir with the given bridge.
func Take(dir, bridge string) State {
	var s State
	s = append(s, mounts(dir)...)
	s = append(s, files(dir)...)
	s = append(s, links(bridge)...)
	s = append(s, cgroups(dir)...)
	s = append(s, shims(dir)...)
	s = append(s, elements(dir)...)
	slices.Sort(s)
	return s
}

// Check fails the test for everything that is there now and was not in before. What
// the kernel and a dying process need a moment for gets five seconds.
func Check(t testing.TB, before State, dir, bridge string) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left = left[:0]
		for _, line := range Take(dir, bridge) {
			if !slices.Contains(before, line) {
				left = append(left, line)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
			return
		}
	}
}

// mounts are what is mounted below dir, and elsewhere of directories below it.
func mounts(dir string) (out []string) {
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(line); len(f) > 4 && (strings.HasPrefix(f[4], dir+"/") || strings.Contains(f[len(f)-1], "="+dir+"/")) {
			out = append(out, "mount "+f[4])
		}
	}
	return out
}

// files lists what is per container; an image's blobs and snapshots are not.
func files(dir string) (out []string) {
	for _, pattern := range []string{
		"data/containers/*", "data/volumes/*/_data", "exec/netns/*", "exec/io/*", "exec/sources/*", "exec/runtime/*/*", "exec/runtime/*",
		"exec/core/io.containerd.runtime.v2.task/*/*", "data/core/io.containerd.runtime.v2.task/*/*",
	} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, f := range found {
			if pattern == "exec/runtime/*" && isDir(f) {
				continue // a namespace's directory
			}
			out = append(out, "file "+f)
		}
	}
	return out
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func links(bridge string) (out []string) {
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil
	}
	all, _ := netlink.LinkList()
	for _, l := range all {
		if l.Attrs().MasterIndex == br.Attrs().Index {
			out = append(out, "link "+l.Attrs().Name)
		}
	}
	return out
}

// Instance is the name that an engine on dir gives its cgroup and its nft table.
func Instance(dir string) string {
	sum := sha256.Sum256([]byte(filepath.Join(dir, "exec")))
	return "gantry-" + hex.EncodeToString(sum[:4])
}

func cgroups(dir string) (out []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/%s/*", "/sys/fs/cgroup/%s/*"} {
		found, _ := filepath.Glob(fmt.Sprintf(pattern, Instance(dir)))
		for _, f := range found {
			if isDir(f) {
				out = append(out, "cgroup "+f)
			}
		}
	}
	return out
}

// shims lists processes that name the directory, other than its daemon.
func shims(dir string) (out []string) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		raw, err := os.ReadFile(p + "/cmdline")
		if errors.Is(err, fs.ErrNotExist) || len(raw) == 0 {
			continue
		}
		cmd := string(bytes.ReplaceAll(bytes.TrimRight(raw, "\x00"), []byte{0}, []byte{' '}))
		if strings.Contains(cmd, dir+"/") && strings.Contains(cmd, "containerd-shim") {
			out = append(out, fmt.Sprintf("process %s %s", filepath.Base(p), cmd))
		}
	}
	return out
}

// elements lists the map and set elements of the engine's nft table.
func elements(dir string) (out []string) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		if nft = "/usr/sbin/nft"; !isFile(nft) {
			return nil
		}
	}
	for _, family := range []string{"inet", "ip", "ip6"} {
		raw, err := exec.Command(nft, "list", "table", family, Instance(dir)).Output()
		if err != nil {
			continue
		}
		text := string(raw)
		for {
			_, rest, ok := strings.Cut(text, "elements = {")
			if !ok {
				break
			}
			body, tail, _ := strings.Cut(rest, "}")
			for _, el := range strings.Split(body, ",") {
				if el = strings.Join(strings.Fields(el), " "); el != "" {
					out = append(out, "nft "+family+" "+el)
				}
			}
			text = tail
		}
	}
	return out
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// RemoveBridge deletes what a daemon keeps on purpose when it ends.
func RemoveBridge(t testing.TB, bridge string) {
	t.Helper()
	if l, err := netlink.LinkByName(bridge); err == nil {
		if err := netlink.LinkDel(l); err != nil {
			t.Errorf("delete bridge %s: %v", bridge, err)
		}
	}
}
