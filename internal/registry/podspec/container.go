package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/podutil"
	"podium.dev/podium/internal/registry/kit/fielderrors"
)

func (c *checker) containers(at *field.Path) {
	if len(c.spec.Containers) == 0 {
		c.Required(at, "")
		return
	}
	names := sets.New[string]()
	for i := range c.spec.Containers {
		ctr, path := &c.spec.Containers[i], at.Index(i)
		c.container(ctr, path)
		if names.Has(ctr.Name) {
			c.Duplicate(path.Child("name"), ctr.Name)
		}
		names.Insert(ctr.Name)
		c.running(ctr, path)
		c.restartRules(ctr, false, path)
	}
	c.hostPorts(c.spec.Containers, at, sets.New[string]())
}

func (c *checker) initContainers(at *field.Path) {
	names := sets.New[string]()
	for i := range c.spec.Containers {
		names.Insert(c.spec.Containers[i].Name)
	}
	for i := range c.spec.InitContainers {
		ctr, path := &c.spec.InitContainers[i], at.Index(i)
		c.container(ctr, path)
		c.restartRules(ctr, true, path)
		if names.Has(ctr.Name) {
			c.Duplicate(path.Child("name"), ctr.Name)
		} else if ctr.Name != "" {
			names.Insert(ctr.Name)
		}
		// Init containers run one after another, so only the ports within one can be in each other's way. The
		// place told is that of a first container, as in Kubernetes.
		c.hostPorts(c.spec.InitContainers[i:i+1], at, sets.New[string]())
		if podutil.IsSidecar(ctr) {
			c.running(ctr, path)
			continue
		}
		c.notRunning(ctr, path)
		if !c.lenient.initRestartOnResize {
			c.noRestartOnResize(ctr, path)
		}
	}
}

func (c *checker) noRestartOnResize(ctr *corev1.Container, at *field.Path) {
	for i, p := range ctr.ResizePolicy {
		if p.RestartPolicy == corev1.RestartContainer {
			c.Invalid(at.Child("resizePolicy").Index(i).Child("restartPolicy"), p.RestartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers")
		}
	}
}

// ephemeralFields are the Go names of the fields that an ephemeral container may set. It has no duties in its
// Pod, so it has no ports, probes, hooks or resources.
var ephemeralFields = []string{"Name", "Image", "Command", "Args", "WorkingDir", "EnvFrom", "Env", "VolumeMounts", "VolumeDevices",
	"TerminationMessagePath", "TerminationMessagePolicy", "ImagePullPolicy", "SecurityContext", "Stdin", "StdinOnce", "TTY"}

const notForEphemeral = "cannot be set for an Ephemeral Container"

func (c *checker) ephemeralContainers(at *field.Path) {
	lasting := sets.New[string]()
	for _, list := range [][]corev1.Container{c.spec.Containers, c.spec.InitContainers} {
		for i := range list {
			lasting.Insert(list[i].Name)
		}
	}
	all := lasting.Clone()
	for i := range c.spec.EphemeralContainers {
		ec, path := &c.spec.EphemeralContainers[i], at.Index(i)
		c.container(AsContainer(ec), path)
		c.imagePadding(AsContainer(ec), path)
		if all.Has(ec.Name) {
			c.Duplicate(path.Child("name"), ec.Name)
		}
		all.Insert(ec.Name)
		if ec.TargetContainerName != "" && !lasting.Has(ec.TargetContainerName) {
			c.NotFound(path.Child("targetContainerName"), ec.TargetContainerName)
		}
		c.onlyFields(ec.EphemeralContainerCommon, ephemeralFields, notForEphemeral, path)
		for j, mount := range ec.VolumeMounts {
			here := path.Child("volumeMounts").Index(j)
			if mount.SubPath != "" {
				c.Forbidden(here.Child("subPath"), notForEphemeral)
			}
			if mount.SubPathExpr != "" {
				c.Forbidden(here.Child("subPathExpr"), notForEphemeral)
			}
		}
	}
}

// container is what holds for containers of every sort.
func (c *checker) container(ctr *corev1.Container, at *field.Path) {
	if ctr.Name == "" {
		c.Required(at.Child("name"), "")
	} else {
		c.dnsLabel(ctr.Name, at.Child("name"))
	}
	c.needs(ctr.Image, at.Child("image"))
	fielderrors.OneOfRequired(&c.List, at.Child("terminationMessagePolicy"), ctr.TerminationMessagePolicy,
		corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
	c.ports(ctr.Ports, at.Child("ports"))
	c.env(ctr.Env, at.Child("env"))
	c.envFrom(ctr.EnvFrom, at.Child("envFrom"))
	c.volumeMounts(ctr, at.Child("volumeMounts"))
	c.volumeDevices(ctr, at.Child("volumeDevices"))
	c.pullPolicy(ctr.ImagePullPolicy, at.Child("imagePullPolicy"))
	c.resources(&ctr.Resources, containerResource, c.claims, at.Child("resources"))
	c.resizePolicy(ctr.ResizePolicy, at.Child("resizePolicy"))
	c.security(ctr.SecurityContext, at.Child("securityContext"))
}

// running is what holds for containers that stay: their hooks and probes.
func (c *checker) running(ctr *corev1.Container, at *field.Path) {
	if ctr.Lifecycle != nil {
		c.lifecycle(ctr.Lifecycle, at.Child("lifecycle"))
	}
	c.livenessProbe(ctr.LivenessProbe, at.Child("livenessProbe"))
	c.readinessProbe(ctr.ReadinessProbe, at.Child("readinessProbe"))
	c.livenessProbe(ctr.StartupProbe, at.Child("startupProbe"))
}

// notRunning forbids hooks and probes in init containers that end.
func (c *checker) notRunning(ctr *corev1.Container, at *field.Path) {
	for _, f := range []struct {
		set  bool
		name string
	}{
		{ctr.Lifecycle != nil, "lifecycle"}, {ctr.LivenessProbe != nil, "livenessProbe"},
		{ctr.ReadinessProbe != nil, "readinessProbe"}, {ctr.StartupProbe != nil, "startupProbe"},
	} {
		if f.set {
			c.Forbidden(at.Child(f.name), "may not be set for init containers without restartPolicy=Always")
		}
	}
}

func (c *checker) pullPolicy(p corev1.PullPolicy, at *field.Path) {
	fielderrors.OneOfRequired(&c.List, at, p, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

// imagePadding refuses blanks around an image reference. Templates may have them.
func (c *checker) imagePadding(ctr *corev1.Container, at *field.Path) {
	if strings.TrimSpace(ctr.Image) != ctr.Image {
		c.Invalid(at.Child("image"), ctr.Image, "must not have leading or trailing whitespace")
	}
}

func (c *checker) ports(ports []corev1.ContainerPort, at *field.Path) {
	names := sets.New[string]()
	for i := range ports {
		p, path := &ports[i], at.Index(i)
		if p.Name != "" {
			msgs := validation.IsValidPortName(p.Name)
			c.InvalidEach(path.Child("name"), p.Name, msgs)
			if len(msgs) == 0 && names.Has(p.Name) {
				c.Duplicate(path.Child("name"), p.Name)
			}
			if len(msgs) == 0 {
				names.Insert(p.Name)
			}
		}
		if p.ContainerPort == 0 {
			c.Required(path.Child("containerPort"), "")
		} else {
			c.InvalidEach(path.Child("containerPort"), p.ContainerPort, validation.IsValidPortNum(int(p.ContainerPort)))
		}
		if p.HostPort != 0 {
			c.InvalidEach(path.Child("hostPort"), p.HostPort, validation.IsValidPortNum(int(p.HostPort)))
		}
		fielderrors.OneOfRequired(&c.List, path.Child("protocol"), p.Protocol, corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
	}
}

// hostPorts wants the containers not to take the same port of the host twice.
func (c *checker) hostPorts(containers []corev1.Container, at *field.Path, taken sets.Set[string]) {
	for i := range containers {
		for j, p := range containers[i].Ports {
			if p.HostPort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort)
			if taken.Has(key) {
				c.Duplicate(at.Index(i).Child("ports").Index(j).Child("hostPort"), key)
			}
			taken.Insert(key)
		}
	}
}

// hostNetworkPorts wants ports in the host's network to be the same on both sides. A template may leave the
// host's side open: it is filled in when the Pod is made.
func (c *checker) hostNetworkPorts(at *field.Path) {
	if !c.spec.HostNetwork {
		return
	}
	isPod := c.meta != nil
	for i := range c.spec.Containers {
		for j, p := range c.spec.Containers[i].Ports {
			if (isPod || p.HostPort != 0) && p.HostPort != p.ContainerPort {
				c.Invalid(at.Index(i).Child("ports").Index(j).Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true")
			}
		}
	}
}
