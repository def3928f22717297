// Package change applies Dockerfile instructions to an image's configuration, as the
// --change option of docker import and docker commit has them. It is pure.
package change

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/sys/signal"

	"gantry/api/errdefs"
)

// allowed are the instructions that change nothing but the configuration.
var allowed = []string{
	"cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild",
	"stopsignal", "user", "volume", "workdir",
}

// Apply returns config with the instructions applied in order; config itself is not
// touched. InvalidArgument, with Docker's words, for one that is not allowed or wrong.
func Apply(config dockerspec.DockerOCIImageConfig, changes []string) (dockerspec.DockerOCIImageConfig, error) {
	c := changer{config: clone(config)}
	if len(changes) == 0 {
		return c.config, nil
	}
	parsed, err := parser.Parse(strings.NewReader(strings.Join(changes, "\n")))
	if err != nil {
		return config, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	c.lex = shell.NewLex(parsed.EscapeToken)
	for _, node := range parsed.AST.Children {
		if !slices.Contains(allowed, strings.ToLower(node.Value)) {
			return config, errdefs.InvalidArgument("%s is not a valid change command", node.Value)
		}
	}
	for _, node := range parsed.AST.Children {
		if err := c.node(node); err != nil {
			return config, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
	}
	return c.config, nil
}

type changer struct {
	config dockerspec.DockerOCIImageConfig
	lex    *shell.Lex
	cmdSet bool // a CMD came before an ENTRYPOINT, which would drop an inherited one
}

func (c *changer) node(node *parser.Node) error {
	cmd, err := instructions.ParseCommand(node)
	if err != nil {
		return err
	}
	if x, ok := cmd.(instructions.SupportsSingleWordExpansion); ok {
		err := x.Expand(func(word string) (string, error) {
			out, _, err := c.lex.ProcessWord(word, shell.EnvsFromSlice(c.config.Env))
			return out, err
		})
		if err != nil {
			return err
		}
	}
	return c.command(cmd)
}

func (c *changer) command(cmd any) error {
	switch x := cmd.(type) {
	case *instructions.CmdCommand:
		c.config.Cmd = c.commandLine(x.ShellDependantCmdLine)
		c.config.ArgsEscaped = false //nolint:staticcheck // Windows only, dropped with the old command
		c.cmdSet = c.cmdSet || len(x.CmdLine) > 0
	case *instructions.EntrypointCommand:
		c.config.Entrypoint = c.commandLine(x.ShellDependantCmdLine)
		if !c.cmdSet {
			c.config.Cmd = nil
		}
	case *instructions.EnvCommand:
		for _, e := range x.Env {
			c.setEnv(e.Key, e.String())
		}
	case *instructions.LabelCommand:
		for _, l := range x.Labels {
			c.config.Labels[l.Key] = l.Value
		}
	case *instructions.ExposeCommand:
		return c.expose(x.Ports)
	case *instructions.HealthCheckCommand:
		c.config.Healthcheck = x.Health
	case *instructions.OnbuildCommand:
		c.config.OnBuild = append(c.config.OnBuild, x.Expression)
	case *instructions.StopSignalCommand:
		if _, err := signal.ParseSignal(x.Signal); err != nil {
			return err
		}
		c.config.StopSignal = x.Signal
	case *instructions.UserCommand:
		c.config.User = x.User
	case *instructions.VolumeCommand:
		return c.volumes(x.Volumes)
	case *instructions.WorkdirCommand:
		return c.workdir(x.Path)
	default:
		return fmt.Errorf("unsupported command type: %T", cmd)
	}
	return nil
}

var defaultShell = []string{"/bin/sh", "-c"}

// commandLine puts the shell before a line that is not in the JSON form.
func (c *changer) commandLine(l instructions.ShellDependantCmdLine) []string {
	if !l.PrependShell {
		return l.CmdLine
	}
	sh := c.config.Shell
	if len(sh) == 0 {
		sh = defaultShell
	}
	return append(slices.Clone(sh), l.CmdLine...)
}

func (c *changer) setEnv(key, pair string) {
	for i, have := range c.config.Env {
		if k, _, _ := strings.Cut(have, "="); k == key {
			c.config.Env[i] = pair
			return
		}
	}
	c.config.Env = append(c.config.Env, pair)
}

// expose may be given a variable with several ports in it.
func (c *changer) expose(words []string) error {
	var ports []string
	for _, w := range words {
		more, err := c.lex.ProcessWords(w, shell.EnvsFromSlice(c.config.Env))
		if err != nil {
			return err
		}
		ports = append(ports, more...)
	}
	set, _, err := nat.ParsePortSpecs(ports)
	if err != nil {
		return err
	}
	for p := range set {
		c.config.ExposedPorts[string(p)] = struct{}{}
	}
	return nil
}

func (c *changer) volumes(paths []string) error {
	for _, v := range paths {
		if v = strings.TrimSpace(v); v == "" {
			return errdefs.InvalidArgument("VOLUME specified can not be an empty string")
		}
		c.config.Volumes[v] = struct{}{}
	}
	return nil
}

func (c *changer) workdir(dir string) error {
	switch {
	case dir == "":
		return errdefs.InvalidArgument("cannot normalize nothing")
	case path.IsAbs(dir):
		c.config.WorkingDir = dir
	default:
		c.config.WorkingDir = path.Join("/", c.config.WorkingDir, dir)
	}
	return nil
}
