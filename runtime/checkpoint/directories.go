package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/containerd/errdefs"
)

// directories are those of a request, open: CRIU takes them from us by descriptor.
type directories struct {
	images, work *os.File // work may be nil
}

// open opens the directories and makes the working one, with images that one too.
func (o *Options) open(images bool) (d directories, err error) {
	if o.ImagePath == "" {
		return d, fmt.Errorf("no directory of images: %w", errdefs.ErrInvalidArgument)
	}
	defer func() {
		if err != nil {
			d.close()
			d = directories{}
		}
	}()
	if d.images, err = openDir(o.ImagePath, images); err != nil {
		return d, fmt.Errorf("images: %w", err)
	}
	if o.WorkPath == "" {
		return d, nil
	}
	if d.work, err = openDir(o.WorkPath, true); err != nil {
		return d, fmt.Errorf("working directory: %w", err)
	}
	return d, nil
}

func openDir(path string, make bool) (*os.File, error) {
	if make {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return os.Open(path)
}

// paths are absolute.
func (d directories) paths() (list []string, err error) {
	for _, f := range []*os.File{d.images, d.work} {
		if f == nil {
			continue
		}
		p, err := filepath.Abs(f.Name())
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// elsewhere are the same directories by other files, in the order of paths.
func elsewhere(files []*os.File) (d directories) {
	d.images = files[0]
	if len(files) > 1 {
		d.work = files[1]
	}
	return d
}

func (d directories) name(o *rpc.CriuOpts) {
	o.ImagesDirFd = ptr(int32(d.images.Fd()))
	if d.work != nil {
		o.WorkDirFd = ptr(int32(d.work.Fd()))
	}
}

// log is the path of a log.
func (d directories) log(name string) string {
	dir := d.images
	if d.work != nil {
		dir = d.work
	}
	return filepath.Join(dir.Name(), name)
}

func (d directories) close() {
	closeFile(d.images)
	closeFile(d.work)
}
