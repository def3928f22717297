package integrationcli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gantry/internal/testutil/leak"
)

// dump lets the next engine have checkpoints, by the runtime that stands in for CRIU.
func (s *site) dump() error {
	s.e.Kill()
	path := filepath.Join(s.e.Dir, "dumper")
	return errors.Join(
		os.WriteFile(path, fmt.Appendf(nil, dumper, s.e.Dir, s.grun), 0o755),
		os.WriteFile(s.settings(), fmt.Appendf(nil, `{"experimental": true, "runtimes": {%q: {"path": %q}}}`, leak.ProgramRuntime, path), 0o600),
	)
}

// liveDumped ends a container with a checkpoint and restores it.
func (s *site) liveDumped() error {
	c := sleeper("none")
	c["HostConfig"].(object)["Runtime"] = leak.ProgramRuntime
	if err := s.begin(c); err != nil {
		return err
	}
	s.said.up = false
	if _, err := s.call("POST", "/containers/fp/checkpoints", object{"CheckpointID": "on1"}); err != nil {
		return err
	}
	if _, err := s.call("POST", "/containers/fp/checkpoints", object{"CheckpointID": "off1", "Exit": true}); err != nil {
		return err
	}
	if _, err := s.call("POST", "/containers/fp/start?checkpoint=off1", nil); err != nil {
		return err
	}
	if _, err := s.call("DELETE", "/containers/fp/checkpoints/off1", nil); err != nil {
		return err
	}
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
