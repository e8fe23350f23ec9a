package cri

import (
	"testing"

	"podium.dev/podium/internal/shim"
)

func TestExitMessage(t *testing.T) {
	const mi = 1 << 20
	for want, exit := range map[string]shim.Exit{
		"": {Code: 1},
		"the kernel killed the container for memory: limit 64Mi, peak 63.9Mi": {
			Code: 137, Signal: 9, OOM: true, Memory: &shim.Memory{Kills: 1, Limit: 64 * mi, Peak: 64*mi - 100000},
		},
		"the kernel killed 2 processes of the container for memory: limit 64Mi, peak 64Mi": {
			OOM: true, Memory: &shim.Memory{Kills: 2, Limit: 64 * mi, Above: 100 * mi, Peak: 64 * mi},
		},
		"the kernel killed 1 process of the container for memory: limit of the Pod or node 1.5Gi, peak 3Ki": {
			Code: 3, OOM: true, Memory: &shim.Memory{Kills: 1, Limit: 2048 * mi, Above: 1536 * mi, Peak: 3072},
		},
		"the kernel killed the container for memory: limit of the Pod or node 64Mi, peak 40Mi": {
			Code: 137, Signal: 9, OOM: true, Memory: &shim.Memory{Kills: 1, Limit: 64 * mi, Above: 64 * mi, Peak: 40 * mi},
		},
		"the kernel killed the container for memory: no limit, the node is out of memory": {
			Code: 137, Signal: 9, OOM: true, Memory: &shim.Memory{Kills: 1},
		},
	} {
		if got := exitMessage(exit); got != want {
			t.Errorf("%+v: %q, want %q", exit, got, want)
		}
	}
}
