package tainteviction

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

func TestStay(t *testing.T) {
	taint := func(key string) corev1.Taint { return corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute} }
	tolerates := func(key string, seconds ...int64) corev1.Toleration {
		out := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists}
		if len(seconds) > 0 {
			out.TolerationSeconds = &seconds[0]
		}
		return out
	}
	tests := []struct {
		name        string
		taints      []corev1.Taint
		tolerations []corev1.Toleration
		want        time.Duration
	}{
		{"no taint", nil, nil, forever},
		{"not tolerated", []corev1.Taint{taint("a")}, nil, 0},
		{"one of two not tolerated", []corev1.Taint{taint("a"), taint("b")}, []corev1.Toleration{tolerates("a")}, 0},
		{"tolerated for ever", []corev1.Taint{taint("a")}, []corev1.Toleration{tolerates("a")}, forever},
		{"for a time", []corev1.Taint{taint("a")}, []corev1.Toleration{tolerates("a", 30)}, 30 * time.Second},
		{"the shortest time counts", []corev1.Taint{taint("a"), taint("b")}, []corev1.Toleration{tolerates("a", 30), tolerates("b", 20)}, 20 * time.Second},
		{"for ever and for a time", []corev1.Taint{taint("a"), taint("b")}, []corev1.Toleration{tolerates("a"), tolerates("b", 20)}, 20 * time.Second},
		{"no time", []corev1.Taint{taint("a")}, []corev1.Toleration{tolerates("a", -5)}, 0},
		{"a toleration not used does not count", []corev1.Taint{taint("a")}, []corev1.Toleration{tolerates("b", 1), tolerates("a")}, forever},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := stay(klog.Background(), tt.taints, tt.tolerations); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
