package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// writePid puts a pid into a file, which appears whole; "" is no file.
func writePid(name string, pid int) (err error) {
	if name == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name))
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_SYNC, 0o666)
	if err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	_, err = f.WriteString(strconv.Itoa(pid))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
