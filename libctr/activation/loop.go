package activation

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/libctr/core/mount"
)

// loopAttempts is how often a free device is looked for: others look too.
const loopAttempts = 50

// attachLoop makes a block device of a file, and a link to it. The device goes by itself
// until the link is there, and stays from then on.
func attachLoop(m mount.Mount, link string) error {
	flags, loopFlags := unix.O_RDWR, uint32(unix.LO_FLAGS_AUTOCLEAR)
	if slices.Contains(m.Options, "ro") {
		flags, loopFlags = unix.O_RDONLY, loopFlags|unix.LO_FLAGS_READ_ONLY
	}
	file, err := openRegular(m.Source, flags)
	if err != nil {
		return fmt.Errorf("loop device of %s: %w", m.Source, err)
	}
	defer file.Close()
	loop, err := configure(file, flags, loopFlags, link)
	if err != nil {
		return fmt.Errorf("loop device of %s: %w", m.Source, err)
	}
	defer loop.Close()
	failpoint.Hit("libctr/activation.loop.configured")
	if err := os.Symlink(loop.Name(), link); err != nil {
		return err
	}
	failpoint.Hit("libctr/activation.loop.linked")
	return setAutoclear(loop, false)
}

// openRegular does not wait, as opening a fifo would.
func openRegular(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		f.Close()
		return nil, errors.Join(err, errors.New("not a regular file"))
	}
	return f, nil
}

// configure finds a free device and gives it the file.
func configure(file *os.File, flags int, loopFlags uint32, link string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range loopAttempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), flags, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd())}
		config.Info.Flags = loopFlags
		copy(config.Info.File_name[:], mark(link))
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // else another was faster
			return nil, fmt.Errorf("configure %s: %w", loop.Name(), err)
		}
	}
	return nil, unix.EBUSY
}

// mark is what a device is known by as the one of a link: the end of its path. The kernel
// itself tells the file, in /sys/block/loopN/loop/backing_file.
func mark(link string) string { return link[max(0, len(link)-(unix.LO_NAME_SIZE-1)):] }

func setAutoclear(loop *os.File, on bool) error {
	info, err := unix.IoctlLoopGetStatus64(int(loop.Fd()))
	if err != nil {
		return fmt.Errorf("status of %s: %w", loop.Name(), err)
	}
	info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
	if on {
		info.Flags |= unix.LO_FLAGS_AUTOCLEAR
	}
	if err := unix.IoctlLoopSetStatus64(int(loop.Fd()), info); err != nil {
		return fmt.Errorf("status of %s: %w", loop.Name(), err)
	}
	return nil
}

// detachLoop lets the device go when its last user has, and removes the link. A device
// that is somebody else's by now is left alone.
func detachLoop(link string) error {
	device, err := os.Readlink(link)
	if err != nil {
		return err
	}
	if err := release(device, link); err != nil {
		return err
	}
	return os.Remove(link)
}

func release(device, link string) error {
	if !strings.HasPrefix(device, "/dev/loop") {
		return nil
	}
	loop, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return err
	}
	defer loop.Close()
	info, err := unix.IoctlLoopGetStatus64(int(loop.Fd()))
	if errors.Is(err, unix.ENXIO) { // it is free
		return nil
	}
	if err != nil {
		return fmt.Errorf("status of %s: %w", device, err)
	}
	if name, _, _ := bytes.Cut(info.File_name[:], []byte{0}); string(name) != mark(link) {
		return nil
	}
	return setAutoclear(loop, true)
}
