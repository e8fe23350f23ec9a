package container

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestSecurity(t *testing.T) {
	r := newRig(t)
	pod := newPod()
	pod.Spec.SecurityContext = &v1.PodSecurityContext{RunAsUser: ptr[int64](1000), RunAsGroup: ptr[int64](1001), FSGroup: ptr[int64](1002), SELinuxOptions: &v1.SELinuxOptions{Level: "pod"}}
	c := &pod.Spec.Containers[0]
	c.SecurityContext = &v1.SecurityContext{
		RunAsUser: ptr[int64](2000), Privileged: ptr(true), ReadOnlyRootFilesystem: ptr(true), AllowPrivilegeEscalation: ptr(false),
		Capabilities: &v1.Capabilities{Add: []v1.Capability{"NET_ADMIN"}, Drop: []v1.Capability{"ALL"}},
	}
	got := r.build(t, pod).Linux.SecurityContext
	if got.RunAsUser.Value != 2000 || got.RunAsGroup.Value != 1001 || !slices.Equal(got.SupplementalGroups, []int64{1002}) || got.SelinuxOptions.Level != "pod" {
		t.Errorf("who: %v", got)
	}
	if !got.Privileged || !got.ReadonlyRootfs || !got.NoNewPrivs || !slices.Equal(got.Capabilities.AddCapabilities, []string{"NET_ADMIN"}) || !slices.Equal(got.Capabilities.DropCapabilities, []string{"ALL"}) {
		t.Errorf("what: %v", got)
	}
	if !slices.Contains(got.MaskedPaths, "/proc/kcore") || !slices.Contains(got.ReadonlyPaths, "/proc/sys") {
		t.Errorf("masked %v", got.MaskedPaths)
	}
	c.SecurityContext.ProcMount = ptr(v1.UnmaskedProcMount)
	if got := r.build(t, pod).Linux.SecurityContext; len(got.MaskedPaths) != 0 || len(got.ReadonlyPaths) != 0 {
		t.Errorf("unmasked: %v", got.MaskedPaths)
	}
	if !anyPrivileged(pod) {
		t.Error("a privileged container was overlooked")
	}
}

func TestImageUser(t *testing.T) {
	r := newRig(t)
	pod := newPod()
	for _, tc := range []struct {
		image *runtimeapi.Image
		uid   *int64
		name  string
	}{
		{nil, ptr[int64](0), ""},
		{&runtimeapi.Image{Uid: &runtimeapi.Int64Value{Value: 7}}, ptr[int64](7), ""},
		{&runtimeapi.Image{Username: "www"}, nil, "www"},
	} {
		got, err := r.security(Input{Pod: pod, Container: &pod.Spec.Containers[0], Image: tc.image})
		if err != nil || got.RunAsUsername != tc.name || (got.RunAsUser == nil) != (tc.uid == nil) || (tc.uid != nil && got.RunAsUser.Value != *tc.uid) {
			t.Errorf("%v: %v, %v", tc.image, got, err)
		}
	}
	pod.Spec.SecurityContext.RunAsNonRoot = ptr(true)
	_, err := r.security(Input{Pod: pod, Container: &pod.Spec.Containers[0], Image: &runtimeapi.Image{Username: "www"}})
	if err == nil || err.Error() != `container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root (pod: "p_ns(uid)", container: c)` {
		t.Errorf("%v", err)
	}
	if _, err := r.security(Input{Pod: pod, Container: &pod.Spec.Containers[0], Image: &runtimeapi.Image{Uid: &runtimeapi.Int64Value{Value: 7}}}); err != nil {
		t.Error(err)
	}
}

func TestSeccomp(t *testing.T) {
	local := &v1.SeccompProfile{Type: v1.SeccompProfileTypeLocalhost, LocalhostProfile: ptr("a/b.json")}
	for _, tc := range []struct {
		name           string
		pod, container *v1.SeccompProfile
		byDefault      bool
		want           runtimeapi.SecurityProfile_ProfileType
		ref            string
	}{
		{"unset", nil, nil, false, runtimeapi.SecurityProfile_Unconfined, ""},
		{"by default", nil, nil, true, runtimeapi.SecurityProfile_RuntimeDefault, ""},
		{"of the pod", &v1.SeccompProfile{Type: v1.SeccompProfileTypeRuntimeDefault}, nil, false, runtimeapi.SecurityProfile_RuntimeDefault, ""},
		{"of the container", local, &v1.SeccompProfile{Type: v1.SeccompProfileTypeUnconfined}, true, runtimeapi.SecurityProfile_Unconfined, ""},
		{"local", local, nil, false, runtimeapi.SecurityProfile_Localhost, "/seccomp/a/b.json"},
	} {
		r := newRig(t)
		r.kubelet.SeccompDefault = &tc.byDefault
		pod := newPod()
		pod.Spec.SecurityContext.SeccompProfile = tc.pod
		pod.Spec.Containers[0].SecurityContext = &v1.SecurityContext{SeccompProfile: tc.container}
		got := r.build(t, pod).Linux.SecurityContext.Seccomp
		if got.ProfileType != tc.want || (tc.ref != "" && got.LocalhostRef != r.cfg.Paths.Kubelet+tc.ref) {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestAppArmor(t *testing.T) {
	pod := newPod()
	c := &pod.Spec.Containers[0]
	check := func(name string, want *runtimeapi.SecurityProfile, old string) {
		t.Helper()
		got, gotOld, err := apparmor(pod, c)
		if err != nil || got.String() != want.String() || gotOld != old {
			t.Errorf("%s: %v, %q, %v", name, got, gotOld, err)
		}
	}
	check("unset", nil, "")
	pod.Spec.SecurityContext.AppArmorProfile = &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
	check("of the pod", &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, "runtime/default")
	pod.Annotations["container.apparmor.security.beta.kubernetes.io/c"] = "localhost/x"
	check("annotation", &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "x"}, "localhost/x")
	c.SecurityContext = &v1.SecurityContext{AppArmorProfile: &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}}
	check("of the container", &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, "unconfined")
}

func TestResources(t *testing.T) {
	r := newRig(t)
	pod := newPod()
	c := &pod.Spec.Containers[0]
	c.Resources = v1.ResourceRequirements{
		Requests: v1.ResourceList{"cpu": resource.MustParse("250m"), "memory": resource.MustParse("1Gi"), "hugepages-2Mi": resource.MustParse("4Mi")},
		Limits:   v1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("2Gi"), "hugepages-2Mi": resource.MustParse("4Mi")},
	}
	got := r.Resources(pod, c)
	if got.CpuShares != 256 || got.CpuQuota != 150000 || got.CpuPeriod != 100000 || got.MemoryLimitInBytes != 2<<30 || got.OomScoreAdj != 900 || got.Unified != nil {
		t.Errorf("v1: %v", got)
	}
	if len(got.HugepageLimits) != 2 || got.HugepageLimits[0].Limit != 4<<20 || got.HugepageLimits[1].Limit != 0 {
		t.Errorf("huge pages: %v", got.HugepageLimits)
	}
	r.machine.Unified, r.machine.SwapControl, r.machine.Swap = true, true, 5<<30
	got = r.Resources(pod, c)
	if got.Unified["memory.oom.group"] != "1" || got.Unified["memory.swap.max"] != "0" || got.Unified["memory.min"] != "0" {
		t.Errorf("v2: %v", got.Unified)
	}
	r.kubelet.MemorySwap.SwapBehavior = "LimitedSwap"
	if got := r.Resources(pod, c); got.Unified["memory.swap.max"] != "536870912" {
		t.Errorf("limited swap: %v", got.Unified)
	}
	c.Resources = v1.ResourceRequirements{}
	got = r.Resources(pod, c)
	if got.CpuShares != 2 || got.CpuQuota != 0 || got.MemoryLimitInBytes != 0 || got.OomScoreAdj != 1000 {
		t.Errorf("nothing asked: %v", got)
	}
	r.kubelet.CPUCFSQuota = ptr(false)
	c.Resources.Limits = v1.ResourceList{"cpu": resource.MustParse("1")}
	if got := r.Resources(pod, c); got.CpuQuota != 0 || got.CpuPeriod != 0 || got.CpuShares != 1024 {
		t.Errorf("without quota: %v", got)
	}
}
