package plan

import (
	"encoding/binary"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

const (
	perLinux32       = 0x0008
	schedISO         = 4 // reserved in the kernel, which refuses it
	ioprioClassShift = 13
	ioprioWhoProcess = 1
)

var personalityDomains = map[specs.LinuxPersonalityDomain]uint64{specs.PerLinux: 0, specs.PerLinux32: perLinux32}

var ioClasses = map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}

var schedPolicies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: unix.SCHED_NORMAL, specs.SchedFIFO: unix.SCHED_FIFO, specs.SchedRR: unix.SCHED_RR,
	specs.SchedBatch: unix.SCHED_BATCH, specs.SchedISO: schedISO, specs.SchedIdle: unix.SCHED_IDLE, specs.SchedDeadline: unix.SCHED_DEADLINE,
}

var schedFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: 0x01, specs.SchedFlagReclaim: 0x02, specs.SchedFlagDLOverrun: 0x04,
	specs.SchedFlagKeepPolicy: 0x08, specs.SchedFlagKeepParams: 0x10,
	specs.SchedFlagUtilClampMin: 0x20, specs.SchedFlagUtilClampMax: 0x40,
}

// scheduling sets CPU affinity, personality, memory policy, I/O priority and scheduler.
func (b *builder) scheduling() error {
	if err := b.affinity(); err != nil {
		return err
	}
	if p := b.spec.Linux.Personality; p != nil {
		domain, ok := personalityDomains[p.Domain]
		if !ok {
			return fmt.Errorf("invalid personality domain %q: %w", p.Domain, errdefs.ErrInvalidArgument)
		}
		b.Label("set personality %s", p.Domain)
		b.Call("personality", unix.SYS_PERSONALITY, program.Named(domain, string(p.Domain)))
	}
	if err := b.memoryPolicy(); err != nil {
		return err
	}
	if io := b.proc.IOPriority; io != nil {
		class, ok := ioClasses[io.Class]
		if !ok || io.Priority < 0 || io.Priority > 7 {
			return fmt.Errorf("I/O priority %s/%d: %w", io.Class, io.Priority, errdefs.ErrInvalidArgument)
		}
		b.Label("set I/O priority")
		b.Call("ioprio_set", unix.SYS_IOPRIO_SET, program.Named(ioprioWhoProcess, "PROCESS"), program.Num(0),
			program.Named(class<<ioprioClassShift|io.Priority, fmt.Sprintf("%s|%d", io.Class, io.Priority)))
	}
	return b.scheduler()
}

func (b *builder) scheduler() error {
	s := b.proc.Scheduler
	if s == nil {
		return nil
	}
	policy, ok := schedPolicies[s.Policy]
	if !ok {
		return fmt.Errorf("scheduler policy %q: %w", s.Policy, errdefs.ErrInvalidArgument)
	}
	flags := uint64(0)
	for _, f := range s.Flags {
		if schedFlags[f] == 0 {
			return fmt.Errorf("scheduler flag %q: %w", f, errdefs.ErrInvalidArgument)
		}
		flags |= schedFlags[f]
	}
	b.Label("set scheduler")
	a := binary.NativeEndian.AppendUint32(nil, 56) // sizeof(struct sched_attr), with utilization clamps
	a = binary.NativeEndian.AppendUint32(a, policy)
	a = binary.NativeEndian.AppendUint64(a, flags)
	a = binary.NativeEndian.AppendUint32(a, uint32(s.Nice))
	a = binary.NativeEndian.AppendUint32(a, uint32(s.Priority))
	for _, v := range []uint64{s.Runtime, s.Deadline, s.Period} {
		a = binary.NativeEndian.AppendUint64(a, v)
	}
	a = binary.NativeEndian.AppendUint64(a, 0) // util_min, util_max: the specification names none
	b.Call("sched_setattr", unix.SYS_SCHED_SETATTR, program.Num(0), program.Bytes(a, fmt.Sprintf("%+v", *s)), program.Num(0))
	return nil
}
