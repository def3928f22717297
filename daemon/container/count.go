package container

// Count says how many containers run or are about to again, are paused, and are down. It
// waits for nothing.
func (s *Service) Count() (running, paused, stopped int) {
	for _, e := range s.all() {
		switch e.snapshot().Status {
		case Running, Restarting:
			running++
		case Paused:
			paused++
		default:
			stopped++
		}
	}
	return running, paused, stopped
}
