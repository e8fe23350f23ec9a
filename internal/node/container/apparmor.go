package container

import (
	"errors"
	"fmt"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/pod"
)

// appArmorSwitch is "Y" in a kernel that enforces AppArmor profiles.
const appArmorSwitch = "/sys/module/apparmor/parameters/enabled"

// AdmitAppArmor refuses Pods that ask for an AppArmor profile on a machine whose kernel enforces none: they would run
// unconfined without anybody being told. The reason and the message are the kubelet's.
func AdmitAppArmor(p *v1.Pod, _ []*v1.Pod) *pod.Verdict {
	on, err := os.ReadFile(appArmorSwitch)
	return admitAppArmor(p, err == nil && strings.HasPrefix(string(on), "Y"))
}

func admitAppArmor(p *v1.Pod, enabled bool) *pod.Verdict {
	confines := func(c *v1.Container) bool {
		profile := apparmorOf(p, c)
		return profile != nil && profile.Type != v1.AppArmorProfileTypeUnconfined
	}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if !enabled && confines(&list[i]) {
				return &pod.Verdict{Reason: "AppArmor", Message: "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
			}
		}
	}
	return nil
}

// apparmor is a container's profile: its own, its annotation's, or its Pod's; and its older written form,
// which runtimes before the field read.
func apparmor(pod *v1.Pod, c *v1.Container) (*runtimeapi.SecurityProfile, string, error) {
	profile := apparmorOf(pod, c)
	if profile == nil {
		return nil, "", nil
	}
	switch profile.Type {
	case v1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, v1.DeprecatedAppArmorBetaProfileRuntimeDefault, nil
	case v1.AppArmorProfileTypeUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, v1.DeprecatedAppArmorBetaProfileNameUnconfined, nil
	case v1.AppArmorProfileTypeLocalhost:
		if profile.LocalhostProfile == nil {
			return nil, "", errors.New("missing localhost apparmor profile name")
		}
		name := *profile.LocalhostProfile
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: name},
			v1.DeprecatedAppArmorBetaProfileNamePrefix + name, nil
	}
	return nil, "", fmt.Errorf("unknown apparmor profile type: %q", profile.Type)
}

func apparmorOf(pod *v1.Pod, c *v1.Container) *v1.AppArmorProfile {
	if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
		return c.SecurityContext.AppArmorProfile
	}
	value := pod.Annotations[v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
	local, isLocal := strings.CutPrefix(value, v1.DeprecatedAppArmorBetaProfileNamePrefix)
	switch {
	case value == v1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeRuntimeDefault}
	case value == v1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeUnconfined}
	case isLocal:
		return &v1.AppArmorProfile{Type: v1.AppArmorProfileTypeLocalhost, LocalhostProfile: &local}
	case pod.Spec.SecurityContext != nil:
		return pod.Spec.SecurityContext.AppArmorProfile
	}
	return nil
}
