package systemd

import "math"

// defaultPeriod is the kernel's, in microseconds.
const defaultPeriod = 100_000

// Quota gives the properties for a CPU quota in microseconds in each period; -1 is no
// limit, a period of 0 the default. systemd keeps whole percents: rounded is the quota
// that it will write, and that must be written, so that the two agree.
func Quota(quota int64, period uint64, setPeriod bool) (props []Property, rounded int64) {
	if period == 0 {
		period = defaultPeriod
	}
	if setPeriod {
		props = append(props, Prop("CPUQuotaPeriodUSec", period))
	}
	if quota <= 0 || uint64(quota) > math.MaxUint64/2_000_000 {
		return append(props, Prop("CPUQuotaPerSecUSec", Infinity)), quota
	}
	perSecond := uint64(quota) * 1_000_000 / period
	const percent = 10_000
	if rest := perSecond % percent; rest != 0 {
		perSecond += percent - rest
		quota = int64(perSecond * period / 1_000_000)
	}
	return append(props, Prop("CPUQuotaPerSecUSec", perSecond)), quota
}
