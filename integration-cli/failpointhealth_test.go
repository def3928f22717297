package integrationcli

import (
	"fmt"
	"strings"
	"time"
)

// liveChecked is live in a container that is checked all the time, and has been.
func (s *site) liveChecked() error {
	c := sleeper("none")
	c["Healthcheck"] = object{"Test": []string{"CMD-SHELL", "sleep 1000 & echo looked"}, "Interval": 20 * time.Millisecond}
	if err := s.begin(c); err != nil {
		return err
	}
	if err := s.looked(); err != nil {
		return err
	}
	s.said.up = false
	if _, err := s.call("POST", "/containers/fp/stop?t=0", nil); err != nil {
		return err
	}
	id := s.said.container
	s.said.container = ""
	if _, err := s.call("DELETE", "/containers/fp?v=1", nil); err != nil {
		return err
	}
	s.said.noContainer = id
	return nil
}

// looked waits until a check has ended.
func (s *site) looked() error {
	for range 200 {
		text, err := s.call("GET", "/containers/fp/json", nil)
		if err != nil {
			return err
		}
		if strings.Contains(text, `"Output":"looked\n"`) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("the container is not checked")
}
