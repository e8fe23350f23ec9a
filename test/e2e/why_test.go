package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"podium.dev/podium/internal/why"
)

// TestWhy asks about Pods that are stuck, each at another station of its life.
func TestWhy(t *testing.T) {
	s := newSpace(t)
	huge := shellPod("huge", "sleep 1000")
	huge.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("100Ti")}
	gated := shellPod("gated", "sleep 1000")
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "test.dev/gate"}}
	noMap := shellPod("no-map", "sleep 1000")
	noMap.Spec.Volumes = []corev1.Volume{{Name: "cfg", VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}},
	}}}
	noMap.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}}
	noImage := shellPod("no-image", "sleep 1000")
	noImage.Spec.Containers[0].Image = "localhost:1/none:2"
	crash := shellPod("crash", "exit 3")
	oom := shellPod("oom", "tail /dev/zero")
	oom.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: mebibytes(20)}
	unready := shellPod("unready", "sleep 1000")
	unready.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
		Exec: &corev1.ExecAction{Command: []string{"sh", "-c", "echo not yet; exit 1"}},
	}}
	for _, p := range []*corev1.Pod{huge, gated, noMap, noImage, crash, oom, unready} {
		s.create(p)
	}
	for name, want := range map[string][]string{
		"huge":     {"it has no node", "1 Insufficient memory", "node " + s.node.name(), "needs 100Ti, ", "fix: the node is too small even when empty"},
		"gated":    {"SchedulingGated", "test.dev/gate"},
		"no-map":   {"volume cfg needs ConfigMap settings, which does not exist", "kubectl create configmap settings -n " + s.ns},
		"no-image": {"image c0: ", "connection refused", "fix: the registry cannot be reached"},
		"crash":    {"CrashLoopBackOff", "exit code 3", "next "},
		"oom":      {"limit c0: OOMKilled", "memory limit of 20Mi", "peak "},
		"unready":  {"probe c0: Unhealthy", "the last result: not yet"},
	} {
		s.eventually("podium why "+name, func() error { return s.why(name, want...) })
	}
	s.eventually("podium why nobody", func() error { return s.whyMissing("nobody", "it does not exist") })
	var e why.Explanation
	if err := json.Unmarshal([]byte(s.podium("why", "huge", "-n", s.ns, "-o", "json")), &e); err != nil {
		s.Fatal(err)
	}
	if len(e.Nodes) != 1 || len(e.Nodes[0].Refused) != 1 || e.Nodes[0].Refused[0].Plugin != "NodeResourcesFit" || e.Nodes[0].Refused[0].Needs != "100Ti" {
		s.Errorf("as JSON: %+v", e)
	}
}

// TestWhyNeverMade asks about Pods that a quota refuses, by their owner and by the name that one would have.
func TestWhyNeverMade(t *testing.T) {
	s := newSpace(t)
	s.kubectl("create", "quota", "small", "--hard=pods=1")
	s.apply(fmt.Sprintf(`apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: rs}
spec:
  replicas: 3
  selector: {matchLabels: {app: rs}}
  template:
    metadata: {labels: {app: rs}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: c, image: %q, command: [sleep, "1000"]}]}
`, shellImage))
	s.eventually("podium why rs/rs", func() error {
		return s.why("rs/rs", "3 wanted, 1 Pod is there", "quota small: FailedCreate", "exceeded quota: small", "pods: 1 used of 1")
	})
	s.eventually("podium why rs-none", func() error { return s.whyMissing("rs-none", "it was never created", "exceeded quota: small") })
	s.kubectl("delete", "rs", "rs", "--wait=true")
}

// why holds what podium why says against what it must say.
func (s *space) why(what string, want ...string) error {
	out, err := s.tryPodium("why", what, "-n", s.ns)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return says(out, want)
}

// whyMissing is why for an object that does not exist, which ends with a code of its own.
func (s *space) whyMissing(what string, want ...string) error {
	out, err := s.tryPodium("why", what, "-n", s.ns)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 6 {
		return fmt.Errorf("want exit code 6, got %v: %s", err, out)
	}
	return says(out, want)
}

func says(out string, want []string) error {
	for _, part := range want {
		if !strings.Contains(out, part) {
			return errors.New("there is no " + part + " in\n" + out)
		}
	}
	return nil
}
