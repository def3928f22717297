package container

// Adopted are the containers that have a task, as execs need them.
func (s *Service) Adopted() (list []Target) {
	for _, e := range s.all() {
		if c := e.snapshot(); c.Status.HasTask() {
			list = append(list, Target{Snapshot: c, Socket: s.socket(e.id), Kept: s.kept(e.id)})
		}
	}
	return list
}
