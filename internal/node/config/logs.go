package config

import (
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// LogMaxSize returns the size in bytes at which a container's log is put aside (containerLogMaxSize).
func LogMaxSize(k *kubeletconfig.KubeletConfiguration) int64 {
	q, err := resource.ParseQuantity(k.ContainerLogMaxSize)
	if err != nil {
		return 10 << 20 // the default; the settings were checked when they were read
	}
	return q.Value()
}
