// Package device gives a container what HostConfig.DeviceRequests asks for. A request
// selects a driver, by name or by capabilities that one of them has, and the driver
// edits the container's specification:
//
//	cdi     devices of the Container Device Interface, by their names
//	nvidia  where nvidia-container-runtime-hook is installed: variables and that hook
//	amd     where amd-container-runtime is installed: variables
//
// Texts and choices are those of dockerd 28.5.
package device

import (
	"errors"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	systemtypes "github.com/docker/docker/api/types/system"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/api/errdefs"
)

// Drivers are the drivers of this machine. Safe for concurrent use.
type Drivers struct {
	cdi      *registry // nil when it is off
	lookPath func(string) (string, error)
}

// New returns the drivers. CDI specifications are read from dirs, anew at each use.
func New(dirs []string, cdi bool) *Drivers {
	d := &Drivers{lookPath: exec.LookPath}
	if cdi {
		d.cdi = openRegistry(dirs)
	}
	return d
}

// Edit changes a specification so that the container has what is asked for.
func (d *Drivers) Edit(s *specs.Spec, requests []containertypes.DeviceRequest) error {
	for _, r := range requests {
		if err := d.edit(s, r); err != nil {
			return err
		}
	}
	return nil
}

const nameCDI = "cdi"

func (d *Drivers) edit(s *specs.Spec, r containertypes.DeviceRequest) error {
	if r.Driver == nameCDI && d.cdi != nil {
		return d.cdi.inject(s, r)
	}
	v, path, ok := d.vendor()
	if !ok || r.Driver != "" && r.Driver != v.name {
		return errNoDriver(r)
	}
	capabilities, ok := v.match(r.Capabilities)
	if !ok {
		return errNoDriver(r)
	}
	if r.Count != 0 && len(r.DeviceIDs) > 0 {
		return errors.New("cannot set both Count and DeviceIDs on device request")
	}
	s.Process.Env = append(s.Process.Env, v.prefix+"_VISIBLE_DEVICES="+visible(r))
	if v.edit != nil {
		v.edit(s, path, capabilities)
	}
	return nil
}

func errNoDriver(r containertypes.DeviceRequest) error {
	return errdefs.InvalidArgument("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
}

// vendor is a maker of GPUs, whose driver is there when its program is.
type vendor struct {
	name, program, prefix string
	capabilities          []string
	edit                  func(s *specs.Spec, path string, capabilities []string)
}

var nvidiaCapabilities = []string{"compute", "compat32", "graphics", "utility", "video", "display"}

// vendors, the first one found wins.
var vendors = []vendor{
	{"nvidia", "nvidia-container-runtime-hook", "NVIDIA", append([]string{"gpu", "nvidia"}, nvidiaCapabilities...), nvidiaHook},
	{"amd", "amd-container-runtime", "AMD", []string{"gpu", "amd"}, nil},
}

func (d *Drivers) vendor() (v vendor, path string, ok bool) {
	for _, v := range vendors {
		if path, err := d.lookPath(v.program); err == nil {
			return v, path, true
		}
	}
	return vendor{}, "", false
}

// match finds the first of the lists of which the driver has everything.
func (v vendor) match(anyOf [][]string) (all []string, ok bool) {
	for _, all := range anyOf {
		if !slices.ContainsFunc(all, func(c string) bool { return !slices.Contains(v.capabilities, c) }) {
			return all, true
		}
	}
	return nil, false
}

// visible says which devices, in the words of the vendors' programs.
func visible(r containertypes.DeviceRequest) string {
	switch {
	case len(r.DeviceIDs) > 0:
		return strings.Join(r.DeviceIDs, ",")
	case r.Count < 0:
		return "all"
	case r.Count == 0:
		return "void"
	}
	ids := make([]string, min(r.Count, maxCount))
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	return strings.Join(ids, ",")
}

// maxCount bounds what a request may make us write.
const maxCount = 1024

// List describes the devices that are known, for info.
func (d *Drivers) List() (found []systemtypes.DeviceInfo, warnings []string) {
	if d.cdi == nil {
		return nil, nil
	}
	return d.cdi.list()
}
