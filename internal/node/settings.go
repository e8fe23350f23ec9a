package node

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// logSize is the size in bytes at which a container's log is put aside.
func logSize(k *kubeletconfig.KubeletConfiguration) int64 {
	q, err := resource.ParseQuantity(k.ContainerLogMaxSize)
	if err != nil {
		return 10 << 20 // the default; the settings were checked when they were read
	}
	return q.Value()
}

// parallelPulls is the most pulls at once, 0 for no bound.
func parallelPulls(k *kubeletconfig.KubeletConfiguration) int {
	if k.SerializeImagePulls != nil && *k.SerializeImagePulls {
		return 1
	}
	if k.MaxParallelImagePulls != nil {
		return int(*k.MaxParallelImagePulls)
	}
	return 0
}

// maxBackoff is the longest wait before a container is started again, 0 for the default.
func maxBackoff(k *kubeletconfig.KubeletConfiguration) time.Duration {
	if m := k.CrashLoopBackOff.MaxContainerRestartPeriod; m != nil {
		return m.Duration
	}
	return 0
}

// reserved is what is not for Pods: kubeReserved, systemReserved and the hard eviction thresholds.
func reserved(k *kubeletconfig.KubeletConfiguration, capacity corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	add := func(name corev1.ResourceName, q resource.Quantity) {
		sum := out[name]
		sum.Add(q)
		out[name] = sum
	}
	for _, list := range []map[string]string{k.KubeReserved, k.SystemReserved} {
		for name, text := range list {
			if q, err := resource.ParseQuantity(text); err == nil {
				add(corev1.ResourceName(name), q)
			}
		}
	}
	for signal, of := range map[string]corev1.ResourceName{"memory.available": corev1.ResourceMemory, "nodefs.available": corev1.ResourceEphemeralStorage} {
		if q, ok := threshold(k.EvictionHard[signal], capacity[of]); ok {
			add(of, q)
		}
	}
	return out
}

// threshold reads an eviction threshold: a quantity, or a percentage of the capacity.
func threshold(text string, capacity resource.Quantity) (resource.Quantity, bool) {
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(percent, 64)
		return *resource.NewQuantity(int64(float64(capacity.Value())*p/100), resource.BinarySI), err == nil
	}
	q, err := resource.ParseQuantity(text)
	return q, err == nil
}
