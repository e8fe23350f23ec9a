package podspec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// AppArmorAnnotation is the key of the annotation that named a container's AppArmor profile before there was a
// field for it; the container's name follows.
const AppArmorAnnotation = corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix

// CheckAnnotations returns the faults of the annotations that mean something in a Pod.
func CheckAnnotations(annotations map[string]string, s *corev1.PodSpec, lenient Lenience, at *field.Path) field.ErrorList {
	c := &checker{spec: s, lenient: lenient}
	c.annotations(annotations, at)
	return c.Errors()
}

func (c *checker) annotations(annotations map[string]string, at *field.Path) {
	if value, mirror := annotations[corev1.MirrorPodAnnotationKey]; mirror && c.spec.NodeName == "" {
		c.Invalid(at.Key(corev1.MirrorPodAnnotationKey), value, "must set spec.nodeName if mirror pod annotation is set")
	}
	if text := annotations[corev1.TolerationsAnnotationKey]; text != "" {
		var tolerations []corev1.Toleration
		if err := json.Unmarshal([]byte(text), &tolerations); err != nil {
			c.Invalid(at, corev1.TolerationsAnnotationKey, err.Error())
		} else {
			c.tolerations(tolerations, at.Child(corev1.TolerationsAnnotationKey))
		}
	}
	if _, err := deletionCost(annotations); err != nil && !c.lenient.deletionCost {
		c.Invalid(at.Key(corev1.PodDeletionCost), annotations[corev1.PodDeletionCost], "must be a 32bit integer")
	}
	if profile, ok := annotations[corev1.SeccompPodAnnotationKey]; ok {
		c.seccompAnnotation(profile, at.Child(corev1.SeccompPodAnnotationKey))
	}
	for _, key := range fielderrors.Keys(annotations) {
		if strings.HasPrefix(key, corev1.SeccompContainerAnnotationKeyPrefix) {
			c.seccompAnnotation(annotations[key], at.Child(key))
		}
	}
	for _, key := range fielderrors.Keys(annotations) {
		if container, ok := strings.CutPrefix(key, AppArmorAnnotation); ok {
			c.appArmorAnnotation(container, annotations[key], at.Key(key))
		}
	}
}

// deletionCost reads the number that says which Pod of a set to delete first: no plus sign, no leading zeros.
func deletionCost(annotations map[string]string) (int32, error) {
	text, ok := annotations[corev1.PodDeletionCost]
	if !ok {
		return 0, nil
	}
	if text == "" || text[0] == '+' || text[0] == '0' && text != "0" {
		return 0, fmt.Errorf("invalid value %q", text)
	}
	cost, err := strconv.ParseInt(text, 10, 32)
	return int32(cost), err
}

func (c *checker) seccompAnnotation(profile string, at *field.Path) {
	switch profile {
	case corev1.SeccompProfileRuntimeDefault, corev1.DeprecatedSeccompProfileDockerDefault, corev1.SeccompProfileNameUnconfined:
		return
	}
	if file, ok := strings.CutPrefix(profile, corev1.SeccompLocalhostProfileNamePrefix); ok {
		relativePath(&c.List, file, at)
		return
	}
	c.Invalid(at, profile, "must be a valid seccomp profile")
}

func (c *checker) appArmorAnnotation(container, profile string, at *field.Path) {
	if !HasContainer(c.spec, container) {
		c.Invalid(at, container, "container not found")
	}
	switch profile {
	case "", corev1.DeprecatedAppArmorBetaProfileRuntimeDefault, corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return
	}
	if !strings.HasPrefix(profile, corev1.DeprecatedAppArmorBetaProfileNamePrefix) {
		c.Invalid(at, profile, fmt.Sprintf("invalid AppArmor profile name: %q", profile))
	}
}

// seccompMatches wants the seccomp annotations to say what the fields say, where both are there.
func (c *checker) seccompMatches(annotations map[string]string, at *field.Path) {
	if sc := c.spec.SecurityContext; sc != nil && sc.SeccompProfile != nil {
		if text, ok := annotations[corev1.SeccompPodAnnotationKey]; ok {
			c.seccompMatch(text, sc.SeccompProfile, at.Child("securityContext", "seccompProfile"))
		}
	}
	for path, ctr := range containersAt(c.spec, at) {
		text, ok := annotations[corev1.SeccompContainerAnnotationKeyPrefix+ctr.Name]
		if ok && ctr.SecurityContext != nil && ctr.SecurityContext.SeccompProfile != nil {
			c.seccompMatch(text, ctr.SecurityContext.SeccompProfile, path.Child("securityContext", "seccompProfile"))
		}
	}
}

func (c *checker) seccompMatch(text string, p *corev1.SeccompProfile, at *field.Path) {
	same := true
	switch p.Type {
	case corev1.SeccompProfileTypeUnconfined:
		same = text == corev1.SeccompProfileNameUnconfined
	case corev1.SeccompProfileTypeRuntimeDefault:
		same = text == corev1.SeccompProfileRuntimeDefault || text == corev1.DeprecatedSeccompProfileDockerDefault
	case corev1.SeccompProfileTypeLocalhost:
		file, local := strings.CutPrefix(text, corev1.SeccompLocalhostProfileNamePrefix)
		if same = local; local && (p.LocalhostProfile == nil || *p.LocalhostProfile != file) {
			c.Forbidden(at.Child("localhostProfile"), "seccomp profile in annotation and field must match")
		}
	}
	if !same {
		c.Forbidden(at.Child("type"), "seccomp type in annotation and field must match")
	}
}

// appArmorMatches is seccompMatches for AppArmor, where a container without a profile has the Pod's.
func (c *checker) appArmorMatches(annotations map[string]string, at *field.Path) {
	if c.spec.OS != nil && c.spec.OS.Name == corev1.Windows {
		return
	}
	var whole *corev1.AppArmorProfile
	if c.spec.SecurityContext != nil {
		whole = c.spec.SecurityContext.AppArmorProfile
	}
	for path, ctr := range containersAt(c.spec, at) {
		profile := whole
		if sc := ctr.SecurityContext; sc != nil && sc.AppArmorProfile != nil {
			profile = sc.AppArmorProfile
		}
		if text, ok := annotations[AppArmorAnnotation+ctr.Name]; ok && profile != nil {
			c.appArmorMatch(text, profile, path.Child("securityContext", "appArmorProfile"))
		}
	}
}

func (c *checker) appArmorMatch(text string, p *corev1.AppArmorProfile, at *field.Path) {
	same := true
	switch p.Type {
	case corev1.AppArmorProfileTypeUnconfined:
		same = text == corev1.DeprecatedAppArmorBetaProfileNameUnconfined
	case corev1.AppArmorProfileTypeRuntimeDefault:
		same = text == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault
	case corev1.AppArmorProfileTypeLocalhost:
		name, local := strings.CutPrefix(text, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
		if same = local; local && (p.LocalhostProfile == nil || *p.LocalhostProfile != name) {
			c.Forbidden(at.Child("localhostProfile"), "apparmor profile in annotation and field must match")
		}
	}
	if !same {
		c.Forbidden(at.Child("type"), "apparmor type in annotation and field must match")
	}
}

// AppArmorProfileOf returns the profile that an AppArmor annotation names, or nil when it names none.
func AppArmorProfileOf(annotation string) *corev1.AppArmorProfile {
	switch annotation {
	case corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	}
	if name, ok := strings.CutPrefix(annotation, corev1.DeprecatedAppArmorBetaProfileNamePrefix); ok && name != "" {
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return nil
}

// CheckAppArmorProfile returns the faults of an AppArmor profile.
func CheckAppArmorProfile(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	return appArmorProfile(p, at)
}
