package integrationcli

import "gantry/internal/testutil/pod"

func (s *site) core() pod.Core { return pod.Core{Socket: s.e.CoreSocket(), Dir: s.e.Dir} }

// pod has a client of the core take a sandbox through its life.
func (s *site) pod() error { return s.core().Live() }

// mounts has a client of the core use mounts that the core makes, alone and for a task.
func (s *site) mounts() error { return s.core().Mounts() }
