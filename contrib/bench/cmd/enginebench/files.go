package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"sync"
	"time"

	"bench/internal/engine"
)

// smallFiles is a tar of n files of 1 KiB, a hundred to a directory, below /tree.
func smallFiles(n int) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	data := make([]byte, 1024)
	fillRandom(data, 1)
	when := time.Unix(1e9, 0)
	for i := range n {
		dir := fmt.Sprintf("tree/%04d/", i/100)
		if i%100 == 0 {
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: when}); err != nil {
				return nil, err
			}
		}
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("%s%02d", dir, i%100), Mode: 0o644, Size: int64(len(data)), ModTime: when}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// filesTest measures what reads and writes a container's many small files.
func filesTest(o *options) test {
	tree := sync.OnceValues(func() ([]byte, error) { return smallFiles(o.Files) })
	return test{
		name: "files", about: fmt.Sprintf("archive PUT and GET, changes, export and commit of %d files of 1 KiB", o.Files), cost: 4,
		rep: func(ep *endpoint, _ int, add addFunc) error {
			raw, err := tree()
			if err != nil {
				return err
			}
			id, err := ep.Create(engine.Spec{Image: o.Image, Cmd: sleeping, HostConfig: engine.HostConfig{NetworkMode: "none"}})
			if err != nil {
				return err
			}
			defer ep.Remove(id)
			if err := ep.Client.Start(id); err != nil {
				return err
			}
			w := newWatch(add)
			if err := ep.PutTar(id, bytes.NewReader(raw)); err != nil {
				return err
			}
			w.lap("put")
			for _, read := range []struct{ metric, path string }{
				{"get", "/archive?path=/tree"}, {"export", "/export"},
			} {
				n, err := ep.Drain("GET", "/containers/"+id+read.path, nil, "")
				if err != nil {
					return err
				}
				if n < int64(o.Files)*1024 {
					return fmt.Errorf("%s gave %d bytes", read.metric, n)
				}
				w.lap(read.metric)
			}
			var changes []struct{ Path string }
			if err := ep.Call("GET", "/containers/"+id+"/changes", nil, &changes); err != nil {
				return err
			}
			if len(changes) <= o.Files {
				return fmt.Errorf("only %d changes", len(changes))
			}
			w.lap("changes")
			if err := ep.Call("POST", "/commit?container="+id+"&repo=enginebench-files&tag=t", nil, nil); err != nil {
				return err
			}
			w.lap("commit")
			return ep.Call("DELETE", "/images/enginebench-files:t?force=1", nil, nil)
		},
	}
}

// diskUsageTest measures what `docker system df` asks, beside many stopped containers.
func diskUsageTest(o *options) test {
	return test{
		name: "df", about: fmt.Sprintf("system df with %d stopped containers", o.Stopped), cost: 2,
		setup: func(ep *endpoint) error { return populate(ep.Client, o, o.Stopped, false) },
		rep: func(ep *endpoint, _ int, add addFunc) error {
			return meanOf(3, "GET", "/system/df", ep, add)
		},
		teardown: func(ep *endpoint) error { return ep.RemoveAll() },
	}
}
