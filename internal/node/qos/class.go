// Package qos says what a Pod's requests and limits mean to the kernel: its class of service, its place in the
// cgroup tree, its shares, quotas and limits there, and which process dies first when memory runs out.
package qos

import (
	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/qosclass"
)

// Class answers with a Pod's class: that of its status, or the one its resources make.
func Class(pod *v1.Pod) v1.PodQOSClass { return qosclass.Of(pod) }
