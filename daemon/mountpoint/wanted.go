package mountpoint

import (
	"fmt"
	"maps"
	"slices"

	mounttypes "github.com/docker/docker/api/types/mount"
)

// Wanted is all that a new container asks to have mounted, its tmpfs aside.
type Wanted struct {
	Inherited []Point             // of other containers
	Binds     []string            // of the one-line form
	Mounts    []mounttypes.Mount  // checked
	Volumes   map[string]struct{} // places that are to be volumes where nothing else is mounted

	Tmpfs  map[string]string // by destination
	Driver string            // of volumes that name none
	Root   string            // the daemon's, which binds show with care
	// TopReadOnly: read-only binds are so at their top alone.
	TopReadOnly bool
}

// Points decides what is mounted where: what the container asks for itself goes before
// what it inherits, and two for one place are an error.
func (w Wanted) Points() ([]Point, error) {
	own := map[string]bool{}
	points := slices.Clone(w.Inherited)
	add := func(p Point, given string) error {
		if err := p.InDaemonRoot(w.Root); err != nil {
			return err
		}
		if w.TopReadOnly {
			p.TopReadOnly()
		}
		if own[p.Destination] {
			return errDuplicate(given)
		}
		own[p.Destination] = true
		points = Put(points, p)
		return nil
	}
	for _, b := range w.Binds {
		p, err := ParseBind(b, w.Driver)
		if err != nil {
			return nil, err
		}
		if _, tmpfs := w.Tmpfs[p.Destination]; tmpfs {
			return nil, errDuplicate(p.Destination)
		}
		if err := add(p, p.Destination); err != nil {
			return nil, err
		}
	}
	for _, m := range w.Mounts {
		if err := add(ParseMount(m), m.Target); err != nil {
			return nil, err
		}
	}
	return w.addVolumes(points)
}

func (w Wanted) addVolumes(points []Point) ([]Point, error) {
	for _, dst := range slices.Sorted(maps.Keys(w.Volumes)) {
		p, err := Anonymous(dst, w.Driver)
		if err != nil {
			return nil, err
		}
		if !At(points, p.Destination) {
			points = append(points, p)
		}
	}
	return points, nil
}

func errDuplicate(destination string) error {
	return fmt.Errorf("Duplicate mount point: %s", destination) //nolint:staticcheck // Docker's words
}

// Put adds p in the place of what is at its destination.
func Put(points []Point, p Point) []Point {
	points = slices.DeleteFunc(points, func(o Point) bool { return o.Destination == p.Destination })
	return append(points, p)
}

// At says whether something is mounted at a destination.
func At(points []Point, destination string) bool {
	return slices.ContainsFunc(points, func(p Point) bool { return p.Destination == destination })
}
