package qos

// Bounds of the kernel's cpu.shares and of CFS quotas, and the period they are counted in by default.
const (
	MinShares = 2
	MaxShares = 262144
	// DefaultPeriod is cpu.cfs_period_us when the node's settings say nothing.
	DefaultPeriod = 100000
	// minQuota is the smallest quota the kernel takes, in microseconds.
	minQuota = 1000
)

// Shares turns thousandths of a CPU into cpu.shares, 1024 a CPU.
func Shares(milliCPU int64) int64 {
	return min(max(milliCPU*1024/1000, MinShares), MaxShares)
}

// Quota turns a limit in thousandths of a CPU into cpu.cfs_quota_us for a period in microseconds; 0, which
// is no limit, for no limit.
func Quota(milliCPU, period int64) int64 {
	if milliCPU == 0 {
		return 0
	}
	return max(milliCPU*period/1000, minQuota)
}
