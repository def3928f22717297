// Command seccomp prints Docker's default seccomp profile, as it is for a container with
// the default capabilities, in the form of an OCI specification's linux.seccomp.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/spec"
)

func main() {
	caps := &specs.LinuxCapabilities{Bounding: spec.DefaultCaps()}
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: caps}})
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(profile); err != nil {
		log.Fatal(err)
	}
}
