package container

import (
	"testing"

	"podium.dev/podium/internal/cgroup"
)

func TestLarger(t *testing.T) {
	period := ptr(uint64(100000))
	a := cgroup.Resources{CPUShares: ptr(uint64(200)), CPUQuota: ptr(int64(20000)), CPUPeriod: period, Memory: ptr(int64(50))}
	b := cgroup.Resources{CPUShares: ptr(uint64(100)), CPUQuota: ptr(int64(30000)), CPUPeriod: period, Memory: ptr(int64(40))}
	got := larger(a, b)
	if *got.CPUShares != 200 || *got.CPUQuota != 30000 || *got.CPUPeriod != 100000 || *got.Memory != 50 {
		t.Errorf("of two limits: %+v", got)
	}
	b.CPUQuota, b.Memory = ptr(int64(-1)), nil
	if got := larger(a, b); *got.CPUQuota != -1 || got.Memory != nil {
		t.Errorf("of a limit and none: %+v", got)
	}
}
