package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/contrib/apparmor"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The prefixes and names of profiles in CRI's older, string form.
const (
	profilePrefix     = "localhost/"
	profileDefault    = "runtime/default"
	profileDocker     = "docker/default"
	profileUnconfined = "unconfined"
)

// profile is the newer form of a security profile, from either; nil when none is named.
func profile(p *runtimeapi.SecurityProfile, old string) (*runtimeapi.SecurityProfile, error) {
	switch {
	case p != nil:
		return p, nil
	case old == "":
		return nil, nil
	case old == profileDefault || old == profileDocker:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}, nil
	case old == profileUnconfined:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}, nil
	case strings.HasPrefix(old, profilePrefix):
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: old}, nil
	}
	return nil, fmt.Errorf("invalid security profile %q", old)
}

// seccomp sets the filter of system calls. None is the answer to no profile and for a privileged container.
func (b *builder) seccomp() error {
	//lint:ignore SA1019 older clients name the profile so
	p, err := profile(b.security.GetSeccomp(), b.security.GetSeccompProfilePath())
	if err != nil || b.privileged() || p == nil || p.GetProfileType() == runtimeapi.SecurityProfile_Unconfined {
		return err
	}
	if !b.host.Seccomp {
		if p.GetProfileType() == runtimeapi.SecurityProfile_Localhost {
			return errors.New("seccomp is not supported")
		}
		return nil
	}
	if p.GetProfileType() == runtimeapi.SecurityProfile_RuntimeDefault {
		b.spec.Linux.Seccomp = b.host.DefaultSeccomp(b.spec)
		return nil
	}
	file := strings.TrimPrefix(p.GetLocalhostRef(), profilePrefix)
	data, err := b.host.ReadFile(file)
	if err != nil {
		return fmt.Errorf("cannot load seccomp profile %q: %w", file, err)
	}
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{}
	if err := json.Unmarshal(data, b.spec.Linux.Seccomp); err != nil {
		return fmt.Errorf("decoding seccomp profile failed %q: %w", file, err)
	}
	return nil
}

// appArmorProfile is the name of the default profile.
const appArmorProfile = "podium-default"

// appArmor sets the profile where the machine has AppArmor; the default is the answer to none.
func (b *builder) appArmor() error {
	//lint:ignore SA1019 older clients name the profile so
	p, err := profile(b.security.GetApparmor(), b.security.GetApparmorProfile())
	if err != nil {
		return err
	}
	if !b.host.AppArmor {
		if p != nil && p.GetProfileType() != runtimeapi.SecurityProfile_Unconfined {
			return errors.New("apparmor is not supported") // as containerd: nobody runs unconfined who asked for a profile
		}
		return nil
	}
	switch {
	case p.GetProfileType() == runtimeapi.SecurityProfile_Unconfined:
	case b.privileged() && (p == nil || p.GetProfileType() == runtimeapi.SecurityProfile_RuntimeDefault):
	case p == nil || p.GetProfileType() == runtimeapi.SecurityProfile_RuntimeDefault:
		b.spec.Process.ApparmorProfile, err = b.host.DefaultAppArmor()
	default:
		name := strings.TrimPrefix(p.GetLocalhostRef(), profilePrefix)
		loaded, err := b.host.HasAppArmor(name)
		if err != nil {
			return fmt.Errorf("look for the AppArmor profile %s: %w", name, err)
		}
		if !loaded {
			return fmt.Errorf("apparmor profile not found %s", name)
		}
		b.spec.Process.ApparmorProfile = name
	}
	return err
}

// appArmorFolder is where the kernel has its profiles.
const appArmorFolder = "/sys/kernel/security/apparmor"

// appArmorEnabled reports whether the kernel enforces profiles, lets this process see to them, and the program that loads
// them is there. As for containerd, one inside another container (by the variable that systemd and LXC set) has none.
func appArmorEnabled() bool {
	on, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || !strings.HasPrefix(string(on), "Y") || !exists(appArmorFolder) || os.Getenv("container") != "" {
		return false
	}
	return exists("/sbin/apparmor_parser") || exists("/usr/sbin/apparmor_parser")
}

// hasAppArmor reports whether the kernel has a profile: the list has lines as «name (enforce)».
func hasAppArmor(name string) (bool, error) {
	list, err := os.ReadFile(filepath.Join(appArmorFolder, "profiles"))
	return listsProfile(string(list), name), err
}

func listsProfile(list, name string) bool {
	for line := range strings.Lines(list) {
		if mode, ok := strings.CutPrefix(line, name+" ("); ok && !strings.Contains(mode, " (") {
			return true
		}
	}
	return false
}

func loadAppArmor() (string, error) {
	if err := apparmor.LoadDefaultProfile(appArmorProfile); err != nil {
		return "", fmt.Errorf("load the default AppArmor profile: %w", err)
	}
	return appArmorProfile, nil
}
