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
