package integrationcli

import (
	"os"
	"syscall"
)

func openTTY(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
}

func ownTerminal() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true, Setctty: true} }
