package logger

import (
	"cmp"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"gantry/daemon/logger/tag"
)

// Subject is the container that a log is of: what its attributes and its tag are made
// of. The fields and methods are the words of a tag's template, as Docker has them.
type Subject struct {
	Config              map[string]string // the log options
	ContainerID         string
	ContainerName       string // with its leading slash
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string
	ContainerImageName  string
	ContainerCreated    time.Time
	ContainerEnv        []string
	ContainerLabels     map[string]string
	LogPath             string
	DaemonName          string
}

// Hostname is the machine's name.
func (s *Subject) Hostname() (string, error) { return os.Hostname() }

// Command is the container's command line, the entrypoint first.
func (s *Subject) Command() string {
	return strings.Join(append([]string{s.ContainerEntrypoint}, s.ContainerArgs...), " ")
}

// ID is the beginning of the container's id.
func (s *Subject) ID() string { return short(s.ContainerID) }

// FullID is the container's id.
func (s *Subject) FullID() string { return s.ContainerID }

// Name is the container's name without the slash.
func (s *Subject) Name() string { return strings.TrimPrefix(s.ContainerName, "/") }

// ImageID is the beginning of the image's id, "sha256:" included, as Docker has it.
func (s *Subject) ImageID() string { return short(s.ContainerImageID) }

// ImageFullID is the image's id.
func (s *Subject) ImageFullID() string { return s.ContainerImageID }

// ImageName is the image's name, as the container was created with.
func (s *Subject) ImageName() string { return s.ContainerImageName }

func short(id string) string { return id[:min(12, len(id))] }

// ExtraAttributes are the labels and variables that the options choose; keyMod, which
// may be nil, changes their names.
func (s *Subject) ExtraAttributes(keyMod func(string) string) (map[string]string, error) {
	if keyMod == nil {
		keyMod = func(k string) string { return k }
	}
	env := map[string]string{}
	for _, e := range s.ContainerEnv {
		if k, v, ok := strings.Cut(e, "="); ok {
			env[k] = v
		}
	}
	out := map[string]string{}
	if err := pick(out, s.ContainerLabels, s.Config["labels"], s.Config["labels-regex"], keyMod); err != nil {
		return nil, err
	}
	return out, pick(out, env, s.Config["env"], s.Config["env-regex"], keyMod)
}

func pick(to, from map[string]string, names, pattern string, keyMod func(string) string) error {
	for n := range strings.SplitSeq(names, ",") {
		if v, ok := from[n]; ok && names != "" {
			to[keyMod(n)] = v
		}
	}
	if pattern == "" {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	for k, v := range from {
		if re.MatchString(k) {
			to[keyMod(k)] = v
		}
	}
	return nil
}

// Tag fills in the template of the option tag, or fallback where there is none.
func (s *Subject) Tag(fallback string) (string, error) {
	return tag.Fill(cmp.Or(s.Config["tag"], fallback), s)
}

// Attrs are the attributes of each entry of a json-file log. What the options' check has
// let through and fails all the same is left out, and so is what is too long.
func (s *Subject) Attrs() map[string]string {
	attrs, err := s.ExtraAttributes(nil)
	if err != nil {
		return nil
	}
	if text, err := s.Tag(""); err == nil && text != "" {
		attrs["tag"] = text
	}
	left := maxAttrs
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		if left -= len(k) + len(attrs[k]); left < 0 {
			left += len(k) + len(attrs[k])
			delete(attrs, k)
		}
	}
	return attrs
}

// maxAttrs bounds the attributes in bytes: they go with every entry, of which there is a
// longest.
const maxAttrs = 32 << 10

// checkAttrs tries the patterns and the tag's template on a container like any other.
func checkAttrs(c map[string]string) error {
	s := Subject{
		Config: c, ContainerID: strings.Repeat("0", 64), ContainerName: "/name",
		ContainerImageID: "sha256:" + strings.Repeat("0", 64), ContainerEnv: []string{"K=V"}, DaemonName: DaemonName,
	}
	if _, err := s.ExtraAttributes(nil); err != nil {
		return err
	}
	_, err := s.Tag("")
	return err
}

// DaemonName is what a tag's DaemonName stands for: Docker's word, since rules of log
// collectors look for it.
const DaemonName = "docker"
