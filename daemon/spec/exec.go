package spec

import (
	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"gantry/daemon/host"
)

// ExecInput is what Exec needs: the container, and what the exec asks for.
type ExecInput struct {
	Config     *containertypes.Config
	HostConfig *containertypes.HostConfig
	Security   Security
	Ulimits    []*containertypes.Ulimit
	Host       host.Features

	Args       []string
	LinkEnv    []string // below the container's
	Env        []string // over the container's
	Cwd        string   // "" is the container's
	Tty        bool
	Size       *[2]uint // height, width
	Privileged bool
	User       specs.User
	Home       string
}

// Exec returns the specification of a further process of a container.
func Exec(in ExecInput) *specs.Process {
	h := in.HostConfig
	score := h.OomScoreAdj
	p := &specs.Process{
		Args: in.Args, Cwd: in.Cwd, Terminal: in.Tty, User: in.User, OOMScoreAdj: &score,
		Env:             withHome(MergeEnv(Env(in.Config, in.LinkEnv, in.Tty, ""), in.Env), in.Home),
		NoNewPrivileges: in.Security.NoNewPrivileges,
		ApparmorProfile: AppArmor(in.Security, in.Host.AppArmor),
		Rlimits:         Rlimits(h.Ulimits, in.Ulimits),
		Capabilities:    CapSets(Caps(h.CapAdd, h.CapDrop, h.Privileged || in.Privileged, in.Host)),
	}
	if p.Cwd == "" {
		p.Cwd = in.Config.WorkingDir
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if in.Tty && in.Size != nil && *in.Size != [2]uint{} {
		p.ConsoleSize = &specs.Box{Height: in.Size[0], Width: in.Size[1]}
	}
	return p
}
