package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/pelletier/go-toml/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
)

// Options of tasks come in one of two messages: containerd's for runc, or, as Kubernetes'
// interface has it for runtimes that it does not know, runtimeoptions.v1.Options, whose
// text or file is TOML with the former's fields, as in a config.toml:
//
//	BinaryName = "crun"
//	SystemdCgroup = true

// decodeOptions reads options of either kind; nil or an empty message asks for nothing.
func decodeOptions(asked *anypb.Any) (*options.Options, error) {
	o := new(options.Options)
	if asked == nil || len(asked.Value) == 0 {
		return o, nil
	}
	switch asked.TypeUrl {
	case nameOf(o):
		if err := proto.Unmarshal(asked.Value, o); err != nil {
			return nil, errdefs.InvalidArgument("runtime options: %w", err)
		}
		return o, nil
	case nameOf(&runtimeoptions.Options{}):
		return decodeText(asked.Value)
	}
	return nil, errdefs.InvalidArgument("unknown runtime options %q", asked.TypeUrl)
}

func nameOf(m proto.Message) string { return string(m.ProtoReflect().Descriptor().FullName()) }

// maxConfig bounds a file of options, in bytes.
const maxConfig = 1 << 20

func decodeText(value []byte) (*options.Options, error) {
	var r runtimeoptions.Options
	if err := proto.Unmarshal(value, &r); err != nil {
		return nil, errdefs.InvalidArgument("runtime options: %w", err)
	}
	if t := r.GetTypeUrl(); t != "" && t != nameOf(&options.Options{}) {
		return nil, errdefs.InvalidArgument("unknown runtime options %q", t)
	}
	text := r.GetConfigBody() // unless there is a file
	if r.GetConfigPath() != "" {
		var err error
		if text, err = readConfig(r.GetConfigPath()); err != nil {
			return nil, fmt.Errorf("runtime options: %w", err)
		}
	}
	return parseText(text)
}

func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxConfig))
}

// parseText reads the options in TOML. What is unknown is an error: a runtime that
// overlooks what it is asked for is worse than one that refuses.
func parseText(text []byte) (*options.Options, error) {
	var t struct {
		NoPivotRoot, NoNewKeyring, SystemdCgroup                  bool
		ShimCgroup, BinaryName, Root, CriuImagePath, CriuWorkPath string
		IoUid, IoGid                                              uint32
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		var unknown *toml.StrictMissingError
		if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
			err = fmt.Errorf("unknown option %s", strings.Join(unknown.Errors[0].Key(), "."))
		}
		return nil, errdefs.InvalidArgument("runtime options: %w", err)
	}
	return &options.Options{
		NoPivotRoot: t.NoPivotRoot, NoNewKeyring: t.NoNewKeyring, SystemdCgroup: t.SystemdCgroup,
		ShimCgroup: t.ShimCgroup, BinaryName: t.BinaryName, Root: t.Root,
		CriuImagePath: t.CriuImagePath, CriuWorkPath: t.CriuWorkPath, IoUid: t.IoUid, IoGid: t.IoGid,
	}, nil
}
