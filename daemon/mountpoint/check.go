package mountpoint

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	mounttypes "github.com/docker/docker/api/types/mount"
)

// Check validates one structured mount. exists says whether a host path is there; with
// nil a bind's source is not looked at.
func Check(m *mounttypes.Mount, exists func(path string) (bool, error)) error {
	if err := check(m, exists); err != nil {
		return fmt.Errorf("invalid mount config for type %q: %w", m.Type, err)
	}
	return nil
}

func check(m *mounttypes.Mount, exists func(string) (bool, error)) error {
	if m.Target == "" {
		return errEmpty("Target")
	}
	if err := CheckTarget(m.Target); err != nil {
		return err
	}
	switch m.Type {
	case mounttypes.TypeBind:
		return checkBind(m, exists)
	case mounttypes.TypeVolume:
		return checkVolume(m)
	case mounttypes.TypeTmpfs:
		return checkTmpfs(m)
	case mounttypes.TypeImage:
		return checkImage(m)
	}
	return errors.New("mount type unknown")
}

// CheckTarget refuses paths in the container that nothing can be mounted on.
func CheckTarget(p string) error {
	if path.Clean(p) == "/" {
		return errors.New("invalid specification: destination can't be '/'")
	}
	return absolute(p)
}

func absolute(p string) error {
	if !path.IsAbs(p) {
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", p)
	}
	return nil
}

func checkBind(m *mounttypes.Mount, exists func(string) (bool, error)) error {
	if m.Source == "" {
		return errEmpty("Source")
	}
	o := m.BindOptions
	if o != nil && o.Propagation != "" && !slices.Contains(propagations, string(o.Propagation)) {
		return fmt.Errorf("invalid propagation mode: %s", o.Propagation)
	}
	if err := foreign(m, mounttypes.TypeBind); err != nil {
		return err
	}
	if err := absolute(m.Source); err != nil {
		return err
	}
	if exists == nil {
		return nil
	}
	found, err := exists(m.Source)
	if err != nil {
		return err
	}
	if !found && (o == nil || !o.CreateMountpoint) {
		return fmt.Errorf("bind source path does not exist: %s", m.Source)
	}
	return nil
}

func checkVolume(m *mounttypes.Mount) error {
	if err := foreign(m, mounttypes.TypeVolume); err != nil {
		return err
	}
	if o := m.VolumeOptions; o != nil && o.Subpath != "" {
		if m.Source == "" {
			return errors.New("must not set Subpath when using anonymous volumes")
		}
		if !filepath.IsLocal(o.Subpath) {
			return errSubpath
		}
	}
	if m.ReadOnly && m.Source == "" {
		return errors.New("must not set ReadOnly mode when using anonymous volumes")
	}
	return nil
}

func checkTmpfs(m *mounttypes.Mount) error {
	if err := foreign(m, mounttypes.TypeTmpfs); err != nil {
		return err
	}
	if m.Source != "" {
		return errExtra("Source")
	}
	_, err := TmpfsData(m.TmpfsOptions, m.ReadOnly)
	return err
}

func checkImage(m *mounttypes.Mount) error {
	if err := foreign(m, mounttypes.TypeImage); err != nil {
		return err
	}
	if m.Source == "" {
		return errEmpty("Source")
	}
	if o := m.ImageOptions; o != nil && o.Subpath != "" && !filepath.IsLocal(o.Subpath) {
		return errSubpath
	}
	return nil
}

// foreign refuses options objects of other types. TmpfsOptions on other types are the
// wire's affair, as in dockerd: the router drops or refuses them by API version.
func foreign(m *mounttypes.Mount, t mounttypes.Type) error {
	switch {
	case m.BindOptions != nil && t != mounttypes.TypeBind:
		return errExtra("BindOptions")
	case m.VolumeOptions != nil && (t == mounttypes.TypeBind || t == mounttypes.TypeImage):
		return errExtra("VolumeOptions")
	case m.ImageOptions != nil && t != mounttypes.TypeImage:
		return errExtra("ImageOptions")
	}
	return nil
}

var errSubpath = errors.New("subpath must be a relative path within the volume")

func errExtra(field string) error { return fmt.Errorf("field %s must not be specified", field) }
func errEmpty(field string) error { return fmt.Errorf("field %s must not be empty", field) }
