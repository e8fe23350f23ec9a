package container

import (
	v1 "k8s.io/api/core/v1"

	"podium.dev/podium/internal/podutil"
)

// PodsCgroup is the cgroup of all Pods, relative to the tree's parent.
const PodsCgroup = treeRoot

// PodCgroup is the cgroup of a Pod, relative to the tree's parent.
func PodCgroup(pod *v1.Pod) string { return place(podutil.QOSClass(pod), pod.UID) }
