package checkpoint

import (
	"fmt"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/containerd/errdefs"
)

// Options are what a dump and a restore have in common.
type Options struct {
	ImagePath string // directory of the images
	WorkPath  string // directory of the log and other files; "" is ImagePath

	TCPEstablished bool   // keep established TCP connections
	ExtUnixSockets bool   // keep unix sockets that lead out of the container
	ShellJob       bool   // the process belongs to the session of a terminal outside
	FileLocks      bool   // keep file locks
	AutoDedup      bool   // punch out of parent images what newer ones hold
	LazyPages      bool   // leave memory to be fetched over the network
	CgroupsMode    string // soft, full, strict, ignore; "" is CRIU's own choice
	EmptyNS        uint32 // CLONE_NEW* of namespaces that are made, but stay empty
}

// DumpOptions says how to make a checkpoint.
type DumpOptions struct {
	Options
	ParentPath      string // an earlier pre-dump, relative to ImagePath
	LeaveRunning    bool
	PreDump         bool // the memory only; the container goes on
	TCPSkipInFlight bool // drop TCP connections that are not established yet
	LinkRemap       bool // give removed files that are still open a name for the time being
	PageServer      *PageServer
	StatusReady     func() // called when lazy pages can be fetched; may be nil
}

// PageServer is where memory goes over the network.
type PageServer struct {
	Address string
	Port    uint16
}

// RestoreOptions says how to bring a container back.
type RestoreOptions struct {
	Options
	LSMProfile      string // TYPE:NAME, for all processes
	LSMMountContext string // for all mounts
}

var cgroupsModes = map[string]rpc.CriuCgMode{
	"": rpc.CriuCgMode_DEFAULT, "soft": rpc.CriuCgMode_SOFT, "full": rpc.CriuCgMode_FULL,
	"strict": rpc.CriuCgMode_STRICT, "ignore": rpc.CriuCgMode_IGNORE,
}

// request fills in what both requests say.
func (o *Options) request() (*rpc.CriuOpts, error) {
	mode, ok := cgroupsModes[o.CgroupsMode]
	if !ok {
		return nil, fmt.Errorf("invalid manage-cgroups-mode value %q: %w", o.CgroupsMode, errdefs.ErrInvalidArgument)
	}
	return &rpc.CriuOpts{
		LogLevel:          ptr(int32(logLevel)),
		NotifyScripts:     ptr(true),
		OrphanPtsMaster:   ptr(true),
		ManageCgroups:     ptr(true), // of old; what counts is the mode
		ManageCgroupsMode: &mode,
		TcpEstablished:    &o.TCPEstablished,
		ExtUnixSk:         &o.ExtUnixSockets,
		ShellJob:          &o.ShellJob,
		FileLocks:         &o.FileLocks,
		AutoDedup:         &o.AutoDedup,
		LazyPages:         &o.LazyPages,
		EmptyNs:           &o.EmptyNS,
	}, nil
}

// logLevel is CRIU's debug level: its log is what there is to read after a failure.
const logLevel = 4

// defaultConfig has CRIU's settings for containers; runc's callers write to it.
const defaultConfig = "/etc/criu/runc.conf"

// configFile lets settings of a file override the request's. The annotation names
// one, or none by being empty.
func configFile(o *rpc.CriuOpts, annotations map[string]string) {
	name, given := annotations["org.criu.config"]
	if !given {
		name = defaultConfig
	}
	if name != "" {
		o.ConfigFile = &name
	}
}
