package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// programName is what is looked up in PATH.
const programName = "criu"

// Versions of CRIU, as its RPC's answer counts them.
const (
	versionRPC       = 30000 // has the version request itself
	versionExtNet    = 31100
	versionFreezeV2  = 31400 // uses the freezer of cgroup v2, too
	versionTimeNS    = 31400 // restores into a time namespace
	versionExtPid    = 31500
	versionNotifies  = 31500 // "status-ready"
	versionLSM       = 31600
	versionNFTables  = 31700 // can lock the network with nftables
	versionNoLock    = 31800 // can leave it unlocked
	maxMessage       = 64 << 10
	maxMessageRights = 1 << 10
)

// swrk is a running "criu swrk".
type swrk struct {
	conn *net.UnixConn
	kill func()
	wait func() error // nil when it ended well
}

// start runs criu as a child in the host's namespaces, with the null device for
// stdio.
func start() (*swrk, error) {
	path, err := exec.LookPath(programName)
	if err != nil {
		return nil, err
	}
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(path, swrkArgs[1:]...)
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	return &swrk{conn, func() { cmd.Process.Kill() }, cmd.Wait}, nil
}

// swrkArgs name the descriptor of the socket.
var swrkArgs = []string{programName, "swrk", "3"}

// adopt is start for a criu that another one has started, with its end of conn.
func adopt(conn *net.UnixConn, proc *program.Process) (*swrk, error) {
	proc.PidFD.Close()
	p, err := os.FindProcess(proc.Pid)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &swrk{conn, func() { p.Kill() }, func() error {
		state, err := p.Wait()
		if err == nil && !state.Success() {
			err = errors.New(state.String())
		}
		return err
	}}, nil
}

func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "criu's socket")
	f := os.NewFile(uintptr(fds[0]), "socket to criu")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}

// heed answers a notification: script names it, pid is of the restored init where
// there is one, file comes with "orphan-pts-master" and is heed's to close.
type heed func(script string, pid int, file *os.File) error

// ask makes one request, the only one of this criu, and lets it go. The end of ctx
// kills it.
func (c *swrk) ask(ctx context.Context, req *rpc.CriuReq, on heed) (*rpc.CriuResp, error) {
	stop := context.AfterFunc(ctx, c.kill)
	resp, err := c.converse(req, on)
	stop()
	if err != nil && resp == nil { // in the middle: it would go on
		c.kill()
	}
	c.conn.Close()
	werr := c.wait()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case werr != nil && req.GetType() != rpc.CriuReqType_PRE_DUMP: // it waits for the dump that was to follow
		return nil, fmt.Errorf("criu %s: %w", req.GetType(), werr)
	}
	return resp, nil
}

// converse returns the answer beside an error when criu itself gave one.
func (c *swrk) converse(req *rpc.CriuReq, on heed) (*rpc.CriuResp, error) {
	if err := c.send(req); err != nil {
		return nil, err
	}
	for {
		resp, file, err := c.receive()
		if err != nil {
			return nil, err
		}
		if resp.GetType() != rpc.CriuReqType_NOTIFY {
			closeFile(file)
			return resp, verdict(req.GetType(), resp)
		}
		n := resp.GetNotify()
		if on == nil || n == nil {
			closeFile(file)
			return nil, errors.New("criu notifies without being asked to")
		}
		if err := on(n.GetScript(), int(n.GetPid()), file); err != nil {
			c.send(&rpc.CriuReq{Type: ptr(rpc.CriuReqType_NOTIFY), NotifySuccess: ptr(false)})
			return nil, fmt.Errorf("%s: %w", n.GetScript(), err)
		}
		if err := c.send(&rpc.CriuReq{Type: ptr(rpc.CriuReqType_NOTIFY), NotifySuccess: ptr(true)}); err != nil {
			return nil, err
		}
	}
}

// verdict is the error in an answer.
func verdict(asked rpc.CriuReqType, resp *rpc.CriuResp) error {
	switch {
	case !resp.GetSuccess():
		return fmt.Errorf("criu failed: type %s errno %d", resp.GetType(), resp.GetCrErrno())
	case resp.GetType() != asked:
		return fmt.Errorf("criu answers %s when asked for %s", resp.GetType(), asked)
	}
	return nil
}

func (c *swrk) send(req *rpc.CriuReq) error {
	b, err := req.MarshalVT()
	if err != nil {
		return err
	}
	if _, err := c.conn.Write(b); err != nil {
		return fmt.Errorf("ask criu: %w", err)
	}
	return nil
}

func (c *swrk) receive() (*rpc.CriuResp, *os.File, error) {
	buf, oob := make([]byte, maxMessage), make([]byte, maxMessageRights)
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(buf, oob)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil, errors.New("criu has ended without an answer")
	case err != nil:
		return nil, nil, fmt.Errorf("hear from criu: %w", err)
	}
	file := oneFile(oob[:oobn])
	resp := &rpc.CriuResp{}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("a message of criu is longer than %d bytes", len(buf))
	} else {
		err = resp.UnmarshalVT(buf[:n])
	}
	if err != nil {
		closeFile(file)
		return nil, nil, fmt.Errorf("hear from criu: %w", err)
	}
	return resp, file, nil
}

// oneFile is the first file of a control message; others are closed.
func oneFile(oob []byte) (first *os.File) {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range list {
		fds, err := unix.ParseUnixRights(&list[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if first != nil {
				unix.Close(fd)
				continue
			}
			unix.CloseOnExec(fd)
			first = os.NewFile(uintptr(fd), "/dev/ptmx")
		}
	}
	return first
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

func ptr[T any](v T) *T { return &v }

// version asks criu for its version: major, minor and sublevel, two digits each.
func version(ctx context.Context) (int, error) {
	resp, err := once(ctx, &rpc.CriuReq{Type: ptr(rpc.CriuReqType_VERSION)})
	if err != nil {
		return 0, fmt.Errorf("CRIU version check failed: %w", err) //nolint:staticcheck // runc's words
	}
	v := resp.GetVersion()
	n := int(v.GetMajorNumber()*10000 + v.GetMinorNumber()*100)
	if v.GetGitid() != "" { // on the way to the next minor one
		return n + 100, nil
	}
	return n + int(v.GetSublevel()), nil
}

// atLeast has runc's words.
func atLeast(have, want int) error {
	if have < want {
		return fmt.Errorf("CRIU version %d must be %d or higher", have, want) //nolint:staticcheck // runc's words
	}
	return nil
}

// checkFeatures asks for features of the kernel that not every one has.
func checkFeatures(ctx context.Context, memTrack, lazyPages bool) error {
	if !memTrack && !lazyPages {
		return nil
	}
	want := &rpc.CriuFeatures{}
	if memTrack {
		want.MemTrack = ptr(true)
	}
	if lazyPages {
		want.LazyPages = ptr(true)
	}
	resp, err := once(ctx, &rpc.CriuReq{Type: ptr(rpc.CriuReqType_FEATURE_CHECK), Features: want})
	if err != nil {
		return fmt.Errorf("CRIU feature check failed: %w", err) //nolint:staticcheck // runc's words
	}
	var lacks []string
	if memTrack && !resp.GetFeatures().GetMemTrack() {
		lacks = append(lacks, "MemTrack")
	}
	if lazyPages && !resp.GetFeatures().GetLazyPages() {
		lacks = append(lacks, "LazyPages")
	}
	if len(lacks) > 0 {
		return fmt.Errorf("criu is missing features: %v", lacks)
	}
	return nil
}

// once asks a criu of its own.
func once(ctx context.Context, req *rpc.CriuReq) (*rpc.CriuResp, error) {
	c, err := start()
	if err != nil {
		return nil, err
	}
	return c.ask(ctx, req, nil)
}
