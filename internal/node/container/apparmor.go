package container

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/pod"
)

// A kernel enforces AppArmor profiles if the switch is "Y" and its folder for them is mounted: runc asks for both, too.
const (
	appArmorSwitch = "/sys/module/apparmor/parameters/enabled"
	appArmorFolder = "/sys/kernel/security/apparmor"
)

// AdmitAppArmor rejects Pods that ask for an AppArmor profile on a machine whose kernel enforces none: they would run
// unconfined without anybody being told. The reason, the messages and what counts as asking are the kubelet's.
func AdmitAppArmor(p *v1.Pod, _ []*v1.Pod) *pod.Verdict {
	on, err := os.ReadFile(appArmorSwitch)
	_, missing := os.Stat(appArmorFolder)
	return admitAppArmor(p, err == nil && strings.HasPrefix(string(on), "Y") && missing == nil)
}

func admitAppArmor(p *v1.Pod, enabled bool) *pod.Verdict {
	if p.Status.Phase != "" && p.Status.Phase != v1.PodPending || !asksForAppArmor(p) {
		return nil // or it was admitted before
	}
	refuse := func(why string) *pod.Verdict {
		return &pod.Verdict{Reason: "AppArmor", Message: "Cannot enforce AppArmor: " + why}
	}
	if !enabled {
		return refuse("AppArmor is not enabled on the host")
	}
	for c := range containers(p) {
		profile := apparmorOf(p, c)
		if profile == nil || profile.Type != v1.AppArmorProfileTypeLocalhost {
			continue
		}
		if name := profile.LocalhostProfile; name == nil || strings.TrimSpace(*name) == "" {
			return refuse(fmt.Sprintf("invalid empty AppArmor profile name: %q", profile))
		}
	}
	return nil
}

// asksForAppArmor reports whether the Pod, one of its containers or an annotation names a profile other than Unconfined.
// The Pod's own counts though all of its containers may have another.
func asksForAppArmor(p *v1.Pod) bool {
	confines := func(a *v1.AppArmorProfile) bool { return a != nil && a.Type != v1.AppArmorProfileTypeUnconfined }
	if sc := p.Spec.SecurityContext; sc != nil && confines(sc.AppArmorProfile) {
		return true
	}
	for c := range containers(p) {
		if c.SecurityContext != nil && confines(c.SecurityContext.AppArmorProfile) {
			return true
		}
	}
	for key, value := range p.Annotations {
		if strings.HasPrefix(key, v1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) && value != v1.DeprecatedAppArmorBetaProfileNameUnconfined {
			return true
		}
	}
	return false
}

// containers yields the Pod's containers of all kinds.
func containers(p *v1.Pod) iter.Seq[*v1.Container] {
	return func(yield func(*v1.Container) bool) {
		for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
		for i := range p.Spec.EphemeralContainers {
			if c := v1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon); !yield(&c) {
				return
			}
		}
	}
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
