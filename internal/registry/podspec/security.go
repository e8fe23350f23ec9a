package podspec

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	sysctlutil "k8s.io/component-helpers/node/util/sysctl"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

const sysctlMaxLength = 253

// sysctlName is the form of a sysctl's name, with dots or slashes between its parts.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

// podSecurity judges the security context of the Pod.
func (c *checker) podSecurity(at *field.Path) {
	sc := c.spec.SecurityContext
	if sc == nil {
		return
	}
	c.group(sc.FSGroup, at.Child("fsGroup"))
	c.user(sc.RunAsUser, at.Child("runAsUser"))
	c.group(sc.RunAsGroup, at.Child("runAsGroup"))
	for i := range sc.SupplementalGroups {
		c.group(&sc.SupplementalGroups[i], at.Child("supplementalGroups").Index(i))
	}
	c.sysctls(sc.Sysctls, at.Child("sysctls"))
	if sc.FSGroupChangePolicy != nil {
		fielderrors.OneOf(&c.List, at.Child("fsGroupChangePolicy"), *sc.FSGroupChangePolicy, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
	}
	c.seccompProfile(sc.SeccompProfile, at.Child("seccompProfile"))
	c.windowsOptions(sc.WindowsOptions, at.Child("windowsOptions"))
	c.Add(appArmorProfile(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
	if sc.SupplementalGroupsPolicy != nil {
		fielderrors.OneOf(&c.List, at.Child("supplementalGroupsPolicy"), *sc.SupplementalGroupsPolicy, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
	}
	if sc.SELinuxChangePolicy != nil {
		fielderrors.OneOf(&c.List, at.Child("seLinuxChangePolicy"), *sc.SELinuxChangePolicy, corev1.SELinuxChangePolicyMountOption, corev1.SELinuxChangePolicyRecursive)
	}
}

func (c *checker) user(id *int64, at *field.Path) {
	if id != nil {
		c.InvalidEach(at, *id, validation.IsValidUserID(*id))
	}
}

func (c *checker) group(id *int64, at *field.Path) {
	if id != nil {
		c.InvalidEach(at, *id, validation.IsValidGroupID(*id))
	}
}

func (c *checker) sysctls(list []corev1.Sysctl, at *field.Path) {
	seen := sets.New[string]()
	for i, s := range list {
		name := at.Index(i).Child("name")
		switch {
		case s.Name == "":
			c.Required(name, "")
		case len(s.Name) > sysctlMaxLength || !sysctlName.MatchString(s.Name):
			c.Invalid(name, s.Name, fmt.Sprintf("must have at most %d characters and match regex %s", sysctlMaxLength, sysctlName))
		case seen.Has(s.Name):
			c.Duplicate(name, s.Name)
		}
		if !c.lenient.hostSysctls {
			hostSysctl(&c.List, s.Name, c.spec, name)
		}
		seen.Insert(s.Name)
	}
}

// hostSysctl refuses a sysctl of a namespace that the Pod shares with the host.
func hostSysctl(l *fielderrors.List, name string, s *corev1.PodSpec, at *field.Path) {
	namespace, _, _ := sysctlutil.GetNamespace(name)
	switch {
	case s.HostNetwork && namespace == sysctlutil.NetNamespace:
		l.Invalid(at, name, "may not be specified when 'hostNetwork' is true")
	case s.HostIPC && namespace == sysctlutil.IPCNamespace:
		l.Invalid(at, name, "may not be specified when 'hostIPC' is true")
	}
}

// security judges the security context of a container.
func (c *checker) security(sc *corev1.SecurityContext, at *field.Path) {
	if sc == nil {
		return
	}
	c.user(sc.RunAsUser, at.Child("runAsUser"))
	c.group(sc.RunAsGroup, at.Child("runAsGroup"))
	if sc.ProcMount != nil {
		fielderrors.OneOf(&c.List, at.Child("procMount"), *sc.ProcMount, corev1.DefaultProcMount, corev1.UnmaskedProcMount)
		if *sc.ProcMount == corev1.UnmaskedProcMount && !inUserNamespace(c.spec) {
			c.Invalid(at.Child("procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`")
		}
	}
	c.seccompProfile(sc.SeccompProfile, at.Child("seccompProfile"))
	if sc.AllowPrivilegeEscalation != nil && !*sc.AllowPrivilegeEscalation {
		if sc.Privileged != nil && *sc.Privileged {
			c.Invalid(at, fielderrors.GoView(sc), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
		}
		if !c.lenient.sysAdmin && addsSysAdmin(sc) {
			c.Invalid(at, fielderrors.GoView(sc), "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")
		}
	}
	c.windowsOptions(sc.WindowsOptions, at.Child("windowsOptions"))
	c.Add(appArmorProfile(sc.AppArmorProfile, at.Child("appArmorProfile"))...)
}

func addsSysAdmin(sc *corev1.SecurityContext) bool {
	return sc.Capabilities != nil && slices.Contains(sc.Capabilities.Add, "CAP_SYS_ADMIN")
}

// hostUsers forbids what does not go with a user namespace of the Pod's own.
func (c *checker) hostUsers(at *field.Path) {
	if !inUserNamespace(c.spec) {
		return
	}
	const detail = "when `hostUsers` is false"
	if c.spec.HostNetwork && !c.lenient.usernsHostNetwork {
		c.Forbidden(at.Child("hostNetwork"), detail)
	}
	if c.spec.HostPID {
		c.Forbidden(at.Child("HostPID"), detail)
	}
	if c.spec.HostIPC {
		c.Forbidden(at.Child("HostIPC"), detail)
	}
	if c.lenient.usernsDevices {
		return
	}
	for path, ctr := range containersAt(c.spec, at) {
		if len(ctr.VolumeDevices) > 0 {
			c.Forbidden(path.Child("volumeDevices"), detail)
		}
	}
}

func (c *checker) seccompProfile(p *corev1.SeccompProfile, at *field.Path) {
	if p == nil {
		return
	}
	if p.Type == "" {
		c.Required(at.Child("type"), "type is required when seccompProfile is set")
	} else {
		fielderrors.OneOf(&c.List, at.Child("type"), p.Type,
			corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)
	}
	local, file := p.Type == corev1.SeccompProfileTypeLocalhost, at.Child("localhostProfile")
	switch {
	case local && p.LocalhostProfile == nil:
		c.Required(file, "must be set when seccomp type is Localhost")
	case local:
		relativePath(&c.List, *p.LocalhostProfile, file)
	case p.LocalhostProfile != nil:
		c.Invalid(file, fielderrors.GoView(p), "can only be set when seccomp type is Localhost")
	}
}

// maxAppArmorName is the longest name of an AppArmor profile: that of a path.
const maxAppArmorName = 4095

func appArmorProfile(p *corev1.AppArmorProfile, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	var l fielderrors.List
	file := at.Child("localhostProfile")
	switch p.Type {
	case corev1.AppArmorProfileTypeLocalhost:
		appArmorName(&l, p.LocalhostProfile, file)
	case corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined:
		if p.LocalhostProfile != nil {
			l.Invalid(file, p.LocalhostProfile, "can only be set when AppArmor type is Localhost")
		}
	case "":
		l.Required(at.Child("type"), "type is required when appArmorProfile is set")
	default:
		fielderrors.OneOf(&l, at.Child("type"), p.Type,
			corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)
	}
	return l.Errors()
}

func appArmorName(l *fielderrors.List, name *string, at *field.Path) {
	switch {
	case name == nil || *name == "":
		l.Required(at, "must be set when AppArmor type is Localhost")
	case strings.TrimSpace(*name) != *name:
		l.Invalid(at, *name, "must not be padded with whitespace")
	}
	if name != nil && len(*name) > maxAppArmorName {
		l.TooLong(at, maxAppArmorName)
	}
}
