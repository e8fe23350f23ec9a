package qos

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// PIDs is the resource that reservations name tasks by.
const PIDs v1.ResourceName = "pid"

// ForNode works out the limits of the cgroup of all Pods: what the machine has less what is reserved. Hard eviction
// thresholds are not taken off: between them and these limits is where Pods are evicted before the kernel kills.
func ForNode(capacity, reserved v1.ResourceList) Limits {
	l := Limits{HugePages: map[int64]int64{}}
	for name := range capacity {
		q := less(capacity[name], reserved[name])
		switch size, huge := PageSize(name); {
		case name == v1.ResourceCPU:
			shares := Shares(q.MilliValue())
			l.Shares = &shares
		case name == v1.ResourceMemory:
			bytes := q.Value()
			l.Memory = &bytes
		case name == PIDs:
			tasks := q.Value()
			l.Pids = &tasks
		case huge:
			l.HugePages[size] = q.Value()
		}
	}
	return l
}

// less is what is left of a quantity, zero at least.
func less(q, reserved resource.Quantity) resource.Quantity {
	q = q.DeepCopy()
	q.Sub(reserved)
	if q.Sign() < 0 {
		return resource.Quantity{}
	}
	return q
}
