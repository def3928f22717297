package integrationcli

import (
	"fmt"
	"time"
)

func init() {
	acts["daemon/image.init."] = (*site).first
	acts["daemon/image.commit."] = (*site).commit
	acts["daemon/container.freeze."] = (*site).commit
}

// first makes the first container of an image, and takes both away.
func (s *site) first() error {
	if err := s.send(tinyArchive("first")); err != nil {
		return err
	}
	s.said.image = "tiny:1"
	text, err := s.call("POST", "/containers/create?name=fp", object{"Image": "tiny:1", "Cmd": []string{"/first"}})
	if err != nil {
		return err
	}
	return s.removeBoth(field(text, "Id"))
}

func (s *site) removeBoth(id string) error {
	s.said.container = ""
	if _, err := s.call("DELETE", "/containers/fp?force=1", nil); err != nil {
		return err
	}
	s.said.noContainer = id
	s.said.image = ""
	return s.removeImages("tiny:1")
}

// commit makes an image of a running container, and takes both away. What runs must not
// stay paused.
func (s *site) commit() error {
	s.said.awake = true
	if err := s.begin(object{"Image": image, "Cmd": []string{"sh", "-c", "echo made >/made; sleep 1000"}}); err != nil {
		return err
	}
	if !becomesTrue(5*time.Second, func() bool { return s.e.Docker("exec", "fp", "cat", "/made").Stdout == "made\n" }) {
		return fmt.Errorf("the container does not work")
	}
	if _, err := s.call("POST", "/commit?container=fp&repo=tiny&tag=1", nil); err != nil {
		return err
	}
	s.said.image = "tiny:1"
	s.said.up, s.said.awake = false, false
	return s.removeBoth(s.said.container)
}
