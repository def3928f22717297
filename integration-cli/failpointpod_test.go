package integrationcli

import "gantry/internal/testutil/pod"

func (s *site) core() pod.Core { return pod.Core{Socket: s.e.CoreSocket(), Dir: s.e.Dir} }

// pod has a client of the core take a sandbox through its life.
func (s *site) pod() error { return s.core().Live() }

// unheld has mounts go with a collection. One may begin at any time: a task that was cut
// off by it would rightly have its mounts.
func (s *site) unheld() error { return s.core().Unheld() }

// mounts has a client of the core use mounts that the core makes, alone and for a task.
func (s *site) mounts() error { return s.core().Mounts() }

// pods has a client of the core put containers into a sandbox, and into a group.
func (s *site) pods() error { return s.core().Members() }

// labelled leaves a container for the next core to start.
func (s *site) labelled() error {
	err := s.core().Labelled()
	s.e.Kill()
	return err
}

// revived waits until the core has started a container by its labels.
func (s *site) revived() error {
	if there, err := s.core().Look(); err != nil {
		return err
	} else if !there {
		if err := s.labelled(); err != nil {
			return err
		}
		if err := s.e.TryLaunch(); err != nil {
			return err
		}
	}
	return s.core().Revived()
}
