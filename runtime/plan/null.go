package plan

import "golang.org/x/sys/unix"

// reopenNull puts the container's own null device where the process was given the
// host's: a descriptor of a mount that the container does not have could not be
// checkpointed.
func (b *builder) reopenNull() {
	if b.o.Null == [3]bool{} {
		return
	}
	b.Label("open the container's null device")
	null, o := b.OpenIn("null", b.root, "/dev/null", unix.O_RDWR|unix.O_NOCTTY)
	o.Tolerate(unix.ENOENT, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.EACCES, unix.ENXIO)
	b.IfOK(o, func() {
		for fd, is := range b.o.Null {
			if is {
				b.Dup(null, fd)
			}
		}
		b.Close(null)
	})
}
