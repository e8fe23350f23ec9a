package podspec

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// Podium's nodes run Linux, but its API takes Pods for Windows nodes as Kubernetes' does.

const (
	maxCredentialSpecKiB = 64
	maxWindowsDomain     = 256
	maxWindowsUser       = 104
)

// What the parts of DOMAIN\USER are made of.
var (
	controlCharacters = regexp.MustCompile(`[[:cntrl:]]+`)
	netBIOSDomain     = regexp.MustCompile(`^[^\\/:\*\?"<>|\.][^\\/:\*\?"<>|]{0,14}$`)
	windowsDNSDomain  = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$`)
	badUserCharacters = regexp.MustCompile(`["/\\:;|=,\+\*\?<>@\[\]]`)
	onlyDotsOrSpaces  = regexp.MustCompile(`^[\. ]+$`)
)

func (c *checker) windowsOptions(o *corev1.WindowsSecurityContextOptions, at *field.Path) {
	if o == nil {
		return
	}
	// Values are handed on by pointer, which shows them as JSON and not as Go strings.
	if o.GMSACredentialSpecName != nil {
		c.InvalidEach(at.Child("gmsaCredentialSpecName"), o.GMSACredentialSpecName, validation.IsDNS1123Subdomain(*o.GMSACredentialSpecName))
	}
	if spec := o.GMSACredentialSpec; spec != nil {
		if *spec == "" {
			c.Invalid(at.Child("gmsaCredentialSpec"), spec, "gmsaCredentialSpec cannot be an empty string")
		} else if len(*spec) > maxCredentialSpecKiB*1024 {
			c.Invalid(at.Child("gmsaCredentialSpec"), spec, fmt.Sprintf("gmsaCredentialSpec size must be under %d KiB", maxCredentialSpecKiB))
		}
	}
	if o.RunAsUserName != nil {
		for _, detail := range windowsUserFaults(*o.RunAsUserName) {
			c.Invalid(at.Child("runAsUserName"), o.RunAsUserName, "runAsUserName"+detail)
		}
	}
}

func windowsUserFaults(name string) (faults []string) {
	domain, user, hasDomain := strings.Cut(name, `\`)
	switch {
	case name == "":
		return []string{" cannot be an empty string"}
	case controlCharacters.MatchString(name):
		return []string{" cannot contain control characters"}
	case strings.Count(name, `\`) > 1:
		return []string{" cannot contain more than one backslash"}
	case !hasDomain:
		domain, user = "", name
	}
	add := func(when bool, detail string) {
		if when {
			faults = append(faults, detail)
		}
	}
	add(len(domain) >= maxWindowsDomain, fmt.Sprintf("'s Domain length must be under %d characters", maxWindowsDomain))
	add(hasDomain && !netBIOSDomain.MatchString(domain) && !windowsDNSDomain.MatchString(domain), "'s Domain doesn't match the NetBios nor the DNS format")
	add(user == "", "'s User cannot be empty")
	add(len(user) > maxWindowsUser, fmt.Sprintf("'s User length must not be longer than %d characters", maxWindowsUser))
	add(onlyDotsOrSpaces.MatchString(user), "'s User cannot contain only periods or spaces")
	add(badUserCharacters.MatchString(user), `'s User cannot contain the following characters: "/\:;|=,+*?<>@[]`)
	return faults
}

// hostProcesses wants all containers to be processes of a Windows host or none.
func (c *checker) hostProcesses(at *field.Path) {
	var whole *bool
	if sc := c.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		whole = sc.WindowsOptions.HostProcess
	}
	all, host := 0, 0
	for path, ctr := range containersAt(c.spec, at) {
		all++
		own := whole
		if sc := ctr.SecurityContext; sc != nil && sc.WindowsOptions != nil && sc.WindowsOptions.HostProcess != nil {
			own = sc.WindowsOptions.HostProcess
			if whole != nil && *whole != *own {
				c.Invalid(path.Child("securityContext", "windowsOptions", "hostProcess"), *own,
					fmt.Sprintf("pod hostProcess value must be identical if both are specified, was %v", *whole))
			}
		}
		if own != nil && *own {
			host++
		}
	}
	if host == 0 {
		return
	}
	if host != all {
		c.Invalid(at, "", "If pod contains any hostProcess containers then all containers must be HostProcess containers")
	}
	if !c.spec.HostNetwork {
		c.Invalid(at.Child("hostNetwork"), false, "hostNetwork must be true if pod contains any hostProcess containers")
	}
}

// operatingSystem forbids what the system that the Pod is for does not have.
func (c *checker) operatingSystem(at *field.Path) {
	if c.spec.OS == nil {
		return
	}
	if c.spec.OS.Name == "" {
		c.Required(at.Child("os", "name"), "")
		return
	}
	if !fielderrors.OneOf(&c.List, at.Child("os"), c.spec.OS.Name, corev1.Linux, corev1.Windows) {
		return
	}
	if c.spec.OS.Name == corev1.Linux {
		c.onlyLinux(at)
	} else {
		c.onlyWindows(at)
	}
}

func (c *checker) onlyLinux(at *field.Path) {
	const detail = "windows options cannot be set for a linux pod"
	if sc := c.spec.SecurityContext; sc != nil && sc.WindowsOptions != nil {
		c.Forbidden(at.Child("securityContext", "windowsOptions"), detail)
	}
	for path, ctr := range containersAt(c.spec, at) {
		if sc := ctr.SecurityContext; sc != nil && sc.WindowsOptions != nil {
			c.Forbidden(path.Child("securityContext", "windowsOptions"), detail)
		}
	}
}

// setField is a field of a Pod and whether it is set.
type setField struct {
	name string
	set  bool
}

func (c *checker) notOnWindows(fields []setField, at *field.Path) {
	for _, f := range fields {
		if f.set {
			c.Forbidden(at.Child(f.name), "cannot be set for a windows pod")
		}
	}
}

func (c *checker) onlyWindows(at *field.Path) {
	s := c.spec
	if sc := s.SecurityContext; sc != nil {
		c.notOnWindows([]setField{
			{"appArmorProfile", sc.AppArmorProfile != nil}, {"seLinuxOptions", sc.SELinuxOptions != nil},
			{"seccompProfile", sc.SeccompProfile != nil}, {"fsGroup", sc.FSGroup != nil},
			{"fsGroupChangePolicy", sc.FSGroupChangePolicy != nil}, {"sysctls", len(sc.Sysctls) > 0},
			{"runAsUser", sc.RunAsUser != nil}, {"runAsGroup", sc.RunAsGroup != nil},
			{"supplementalGroups", sc.SupplementalGroups != nil}, {"supplementalGroupsPolicy", sc.SupplementalGroupsPolicy != nil},
			{"seLinuxChangePolicy", sc.SELinuxChangePolicy != nil},
		}, at.Child("securityContext"))
	}
	c.notOnWindows([]setField{
		{"hostUsers", s.HostUsers != nil}, {"hostPID", s.HostPID}, {"hostIPC", s.HostIPC}, {"shareProcessNamespace", s.ShareProcessNamespace != nil},
	}, at)
	for path, ctr := range containersAt(s, at) {
		if sc := ctr.SecurityContext; sc != nil {
			c.notOnWindows([]setField{
				{"appArmorProfile", sc.AppArmorProfile != nil}, {"seLinuxOptions", sc.SELinuxOptions != nil},
				{"seccompProfile", sc.SeccompProfile != nil}, {"capabilities", sc.Capabilities != nil},
				{"readOnlyRootFilesystem", sc.ReadOnlyRootFilesystem != nil}, {"privileged", sc.Privileged != nil},
				{"allowPrivilegeEscalation", sc.AllowPrivilegeEscalation != nil}, {"procMount", sc.ProcMount != nil},
				{"runAsUser", sc.RunAsUser != nil}, {"runAsGroup", sc.RunAsGroup != nil},
			}, path.Child("securityContext"))
		}
	}
}
