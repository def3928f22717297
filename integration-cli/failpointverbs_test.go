package integrationcli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

func init() {
	acts["daemon/container.update."] = (*site).update
	acts["daemon/container.rename."] = (*site).rename
	acts["daemon/container.view."] = (*site).copies
	acts["daemon/archive."] = (*site).copies
}

// update changes the limits of a container that runs, so that record and cgroup must
// agree afterwards.
func (s *site) update() error {
	if err := s.begin(object{
		"Image": image, "Cmd": []string{"sleep", "1000"},
		"HostConfig": object{"NetworkMode": "none", "Memory": 64 << 20, "PidsLimit": 50},
	}); err != nil {
		return err
	}
	if _, err := s.call("POST", "/containers/fp/update", object{"Memory": 80 << 20, "MemorySwap": 160 << 20, "PidsLimit": 60}); err != nil {
		return err
	}
	text, err := s.call("GET", "/containers/fp/json", nil)
	if err == nil && !strings.Contains(text, `"PidsLimit":60`) {
		err = errors.New("the update is not to be seen")
	}
	if err != nil {
		return err
	}
	return s.remove()
}

// remove takes the container away, which may run.
func (s *site) remove() error {
	id := s.said.container
	s.said.container, s.said.up = "", false
	if _, err := s.call("DELETE", "/containers/"+id+"?v=1&force=1", nil); err != nil {
		return err
	}
	s.said.noContainer = id
	return nil
}

// rename gives a container another name and its own again: of both names one is its own
// at any time.
func (s *site) rename() error {
	text, err := s.call("POST", "/containers/create?name=fp", object{"Image": image, "Cmd": []string{"true"}})
	if err != nil {
		return err
	}
	s.said.container = field(text, "Id")
	for _, step := range [][2]string{{"fp", "fp2"}, {"fp2", "fp"}} {
		if _, err := s.call("POST", "/containers/"+step[0]+"/rename?name="+step[1], nil); err != nil {
			return err
		}
		if text, err = s.call("GET", "/containers/"+step[1]+"/json", nil); err != nil || field(text, "Id") != s.said.container {
			return fmt.Errorf("%s is not its name: %v", step[1], err)
		}
	}
	return s.remove()
}

// copies takes a container with mounts of all kinds, down and running, through all that
// looks into its files.
func (s *site) copies() error {
	if _, err := s.call("POST", "/volumes/create", object{
		"Name": "fp", "DriverOpts": object{"type": "tmpfs", "device": "tmpfs"},
	}); err != nil {
		return err
	}
	s.said.volume = "fp"
	text, err := s.call("POST", "/containers/create?name=fp", object{
		"Image": image, "Cmd": []string{"sleep", "1000"},
		"HostConfig": object{"NetworkMode": "none", "Mounts": []object{
			{"Type": "volume", "Source": "fp", "Target": "/v"},
			{"Type": "image", "Source": image, "Target": "/part", "ImageOptions": object{"Subpath": "bin"}},
		}},
	})
	if err != nil {
		return err
	}
	s.said.container = field(text, "Id")
	for _, start := range []bool{false, true} {
		if start {
			if _, err := s.call("POST", "/containers/fp/start", nil); err != nil {
				return err
			}
		}
		if err := s.looks(); err != nil {
			return err
		}
	}
	if err := s.remove(); err != nil {
		return err
	}
	s.said.volume = ""
	if _, err := s.call("DELETE", "/volumes/fp", nil); err != nil {
		return err
	}
	s.said.noVolume = "fp"
	return nil
}

// looks copies into the container and out of it, exports it and lists its changes.
func (s *site) looks() error {
	if err := s.put("/", "made"); err != nil {
		return err
	}
	if err := s.put("/v", "in volume"); err != nil {
		return err
	}
	for _, path := range []string{"/archive?path=/made", "/export", "/changes"} {
		text, err := s.call("GET", "/containers/fp"+path, nil)
		if err == nil && !strings.Contains(text, "made") {
			err = fmt.Errorf("%s: what was copied is not there", path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// put copies a file into a directory of the container.
func (s *site) put(dir, name string) error {
	req, err := http.NewRequest("PUT", "http://gantry/v1.51/containers/fp/archive?path="+url.QueryEscape(dir), bytes.NewReader(tarOf(map[string][]byte{name: []byte("x")})))
	if err != nil {
		return err
	}
	r, err := s.e.HTTP().Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("copy to %s: %s %s", dir, r.Status, text)
	}
	return err
}
