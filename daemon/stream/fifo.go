package stream

// Fifo is a stream of a process under a shim that is not ours. Its stdin is a fifo that
// two hold open, the keeper at the other end of Process and the shim: it ends when both
// have closed it.
type Fifo struct {
	Process
	CloseShim func() error
}

// CloseStdin implements Process.
func (f Fifo) CloseStdin() error {
	if err := f.Process.CloseStdin(); err != nil {
		return err
	}
	return f.CloseShim()
}
