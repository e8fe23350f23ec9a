package podspec

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

func TestStopSignal(t *testing.T) {
	for _, tc := range []struct {
		os, signal, want string
	}{
		{"linux", "SIGUSR1", ""},
		{"linux", "SIGRTMIN+15", ""},
		{"linux", "SIGRTMAX-14", ""},
		{"linux", "SIGRTMAX-15", field.ErrorTypeNotSupported.String()},
		{"linux", "TERM", field.ErrorTypeNotSupported.String()},
		{"windows", "SIGKILL", ""},
		{"windows", "SIGUSR1", field.ErrorTypeNotSupported.String()},
		{"", "SIGTERM", ""},
	} {
		template := template(t, "{}")
		if tc.os != "" {
			template.Spec.OS = &corev1.PodOS{Name: corev1.OSName(tc.os)}
		}
		template.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{StopSignal: ptr.To(corev1.Signal(tc.signal))}
		PruneTemplate(template)
		got := ""
		for _, f := range CheckTemplate(template, nil, field.NewPath("template")) {
			if f.Field != "template.spec.containers[0].lifecycle.stopSignal" {
				t.Errorf("%s on %q: a fault of %s", tc.signal, tc.os, f.Field)
			}
			got = f.Type.String()
		}
		if kept := template.Spec.Containers[0].Lifecycle != nil; kept != (tc.os != "") {
			t.Errorf("%s on %q: kept: %v", tc.signal, tc.os, kept)
		}
		if got != tc.want {
			t.Errorf("%s on %q: %q, want %q", tc.signal, tc.os, got, tc.want)
		}
	}
}

func TestSignalsOfLinux(t *testing.T) {
	if list := linuxSignals(); len(list) != 65 || !slices.IsSorted(list) {
		t.Errorf("%d: %v", len(list), list)
	}
}
