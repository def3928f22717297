package logger

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"

	"gantry/api/shimwire"
)

// Drivers.
const (
	JSONFile = shimwire.DriverJSONFile
	None     = shimwire.DriverNone
)

// Settings are a container's log options, read.
type Settings struct {
	Driver  string
	MaxSize int64 // bytes; 0 never rotates
	MaxFile int
}

// Merge completes a container's log configuration with the daemon's: an empty type is
// the daemon's, and where the types agree missing options are too.
func Merge(own, daemon containertypes.LogConfig) containertypes.LogConfig {
	out := containertypes.LogConfig{Type: own.Type, Config: map[string]string{}}
	if out.Type == "" {
		out.Type = daemon.Type
	}
	if out.Type == daemon.Type {
		maps.Copy(out.Config, daemon.Config)
	}
	maps.Copy(out.Config, own.Config)
	return out
}

// keys of json-file.
var keys = map[string]bool{
	"max-file": true, "max-size": true, "compress": true, "labels": true, "labels-regex": true,
	"env": true, "env-regex": true, "tag": true, "mode": true, "max-buffer-size": true,
}

// Parse checks a merged configuration; its errors are InvalidArgument's matter.
func Parse(c containertypes.LogConfig) (Settings, error) {
	switch c.Type {
	case None:
		return Settings{Driver: None}, nil
	case JSONFile:
	default:
		return Settings{}, fmt.Errorf("logger: no log driver named '%s' is registered", c.Type)
	}
	if err := checkMode(c.Config); err != nil {
		return Settings{}, err
	}
	for k := range c.Config {
		if !keys[k] {
			return Settings{}, fmt.Errorf("unknown log opt '%s' for json-file log driver", k)
		}
	}
	return parseFile(c.Config)
}

func checkMode(c map[string]string) error {
	switch mode := c["mode"]; containertypes.LogMode(mode) {
	case containertypes.LogModeUnset, containertypes.LogModeBlocking, containertypes.LogModeNonBlock:
	default:
		return fmt.Errorf("logger: logging mode not supported: %s", mode)
	}
	size, set := c["max-buffer-size"]
	if !set {
		return nil
	}
	if containertypes.LogMode(c["mode"]) != containertypes.LogModeNonBlock {
		return fmt.Errorf("logger: max-buffer-size option is only supported with 'mode=%s'", containertypes.LogModeNonBlock)
	}
	if _, err := units.RAMInBytes(size); err != nil {
		return fmt.Errorf("error parsing option max-buffer-size: %w", err)
	}
	return nil
}

// maxFiles is more than anybody keeps; without it the number might not fit on the wire.
const maxFiles = 1 << 20

func parseFile(c map[string]string) (Settings, error) {
	s := Settings{Driver: JSONFile, MaxFile: 1}
	if v, ok := c["max-size"]; ok && v != "-1" {
		n, err := units.FromHumanSize(v)
		if err != nil {
			return s, err
		}
		if n <= 0 {
			return s, fmt.Errorf("max-size must be a positive number")
		}
		s.MaxSize = n
	}
	if v, ok := c["max-file"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			return s, err
		}
		if n < 1 {
			return s, fmt.Errorf("max-file cannot be less than 1")
		}
		s.MaxFile = min(n, maxFiles)
	}
	if v, ok := c["compress"]; ok {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return s, err
		}
		if on {
			return s, fmt.Errorf("compress is not supported by this engine yet")
		}
	}
	for _, k := range []string{"labels-regex", "env-regex"} {
		if _, err := regexp.Compile(c[k]); err != nil {
			return s, err
		}
	}
	if _, err := template.New("log-tag").Parse(c["tag"]); err != nil {
		return s, err
	}
	return s, nil
}

// Subject is what a log's attributes are made of.
type Subject struct {
	ContainerID, ContainerName, ImageID, ImageName string
	Labels                                         map[string]string
	Env                                            []string
}

// Methods are the words of a tag's template, as Docker has them.

func (s Subject) ID() string          { return short(s.ContainerID) }
func (s Subject) FullID() string      { return s.ContainerID }
func (s Subject) Name() string        { return s.ContainerName }
func (s Subject) ImageFullID() string { return s.ImageID }
func (s Subject) DaemonName() string  { return "gantry" }

func short(id string) string { return id[:min(12, len(id))] }

// Attrs are the attributes of each entry of the log of a container with options c.
func Attrs(c map[string]string, s Subject) map[string]string {
	attrs := map[string]string{}
	env := map[string]string{}
	for _, e := range s.Env {
		if k, v, ok := strings.Cut(e, "="); ok {
			env[k] = v
		}
	}
	pick(attrs, s.Labels, c["labels"], c["labels-regex"])
	pick(attrs, env, c["env"], c["env-regex"])
	if tag := c["tag"]; tag != "" {
		if t, err := template.New("log-tag").Parse(tag); err == nil {
			b := limited{left: maxTag}
			if t.Execute(&b, s) == nil {
				attrs["tag"] = b.text.String()
			}
		}
	}
	return attrs
}

// maxTag bounds a tag in bytes: it goes with every entry, and a template can make much
// of little.
const maxTag = 4 << 10

// limited takes left bytes and then fails.
type limited struct {
	text strings.Builder
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, io.ErrShortWrite
	}
	return l.text.Write(p)
}

func pick(to, from map[string]string, names, pattern string) {
	for n := range strings.SplitSeq(names, ",") {
		if v, ok := from[n]; ok && n != "" {
			to[n] = v
		}
	}
	if pattern == "" {
		return
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return
	}
	for k, v := range from {
		if re.MatchString(k) {
			to[k] = v
		}
	}
}
