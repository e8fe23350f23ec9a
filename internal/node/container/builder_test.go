package container

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/node/object"
	"podium.dev/podium/internal/node/volume"
	"podium.dev/podium/internal/paths"
)

var (
	_ Volumes = (*volume.Manager)(nil)
	_ Objects = (*object.Store)(nil)
)

func ptr[T any](v T) *T { return &v }

// objects are ConfigMaps, Secrets and Services by name, of any namespace.
type objects struct {
	configMaps map[string]map[string]string
	secrets    map[string]map[string][]byte
	services   []*v1.Service
	fail       error
}

func (o objects) ConfigMap(_ context.Context, _ *v1.Pod, name string) (*v1.ConfigMap, error) {
	if data, ok := o.configMaps[name]; ok {
		return &v1.ConfigMap{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmap"}, name)
}

func (o objects) Secret(_ context.Context, _ *v1.Pod, name string) (*v1.Secret, error) {
	if data, ok := o.secrets[name]; ok {
		return &v1.Secret{Data: data}, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secret"}, name)
}

func (o objects) Services(ctx context.Context, _ string, _ bool) ([]*v1.Service, error) {
	if ctx.Err() != nil {
		return o.services, ctx.Err()
	}
	return o.services, o.fail
}

// volumes are folders by name; SubPath returns what it was asked.
type volumes map[string]string

func (v volumes) HostPath(_ *v1.Pod, name string) (string, error) {
	if path, ok := v[name]; ok {
		return path, nil
	}
	return "", fmt.Errorf("no volume %s", name)
}

func (v volumes) SubPath(_ *v1.Pod, name, container string, index int, path string) (string, error) {
	return fmt.Sprintf("sub:%s/%s/%d/%s", name, container, index, path), nil
}

// rig is a Builder over fakes, in a folder of its own.
type rig struct {
	*Builder
	kubelet *kubeletconfig.KubeletConfiguration
	objects *objects
	volumes volumes
	events  *record.FakeRecorder
	machine *Machine
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	resolver := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver 9.9.9.9\nsearch host.example.\noptions timeout:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{
		kubelet: &kubeletconfig.KubeletConfiguration{ClusterDomain: "cluster.local", ClusterDNS: []string{"10.96.0.10"}, ResolverConfig: &resolver},
		objects: &objects{}, volumes: volumes{}, events: record.NewFakeRecorder(20),
		machine: &Machine{HugePages: []string{"2MB", "1GB"}, Memory: 10 << 30, RecursiveReadOnly: true},
	}
	r.Builder = NewBuilder(Config{
		NodeName: "node", HostIPs: func() []string { return []string{"192.0.2.1"} },
		Allocatable: func() v1.ResourceList {
			return v1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")}
		},
		Paths:   paths.Paths{Kubelet: filepath.Join(dir, "kubelet"), Pods: filepath.Join(dir, "kubelet/pods"), PodLogs: filepath.Join(dir, "log/pods"), ContainerLogs: filepath.Join(dir, "log/containers")},
		Kubelet: r.kubelet, Objects: r.objects, Volumes: r.volumes, Recorder: r.events, Machine: r.machine,
		Node: func() *v1.ObjectReference { return &v1.ObjectReference{Kind: "Node", Name: "node"} },
	})
	return r
}

func newPod() *v1.Pod {
	return &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "uid", Labels: map[string]string{"app": "x"}, Annotations: map[string]string{"note": "y"}},
		Spec: v1.PodSpec{
			Containers: []v1.Container{{Name: "c", Image: "image:1"}}, EnableServiceLinks: ptr(true), DNSPolicy: v1.DNSClusterFirst,
			SecurityContext: &v1.PodSecurityContext{},
		},
	}
}

func (r *rig) build(t *testing.T, pod *v1.Pod) *runtimeapi.ContainerConfig {
	t.Helper()
	config, err := r.try(pod)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func (r *rig) try(pod *v1.Pod) (*runtimeapi.ContainerConfig, error) {
	return r.Container(context.Background(), Input{
		Pod: pod, Container: &pod.Spec.Containers[0], Attempt: 2, ImageRef: "sha256:1", PodIPs: []string{"10.1.0.5", "fd00::5"},
	})
}

func variables(c *runtimeapi.ContainerConfig) map[string]string {
	m := map[string]string{}
	for _, kv := range c.Envs {
		m[kv.Key] = string(kv.Value)
	}
	return m
}

func TestContainer(t *testing.T) {
	r := newRig(t)
	pod := newPod()
	c := &pod.Spec.Containers[0]
	c.Command, c.Args, c.WorkingDir = []string{"run", "$(A)", "$$(A)", "$(NONE)"}, []string{"--x=$(B)"}, "/work"
	c.Env = []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "b$(A)"}}
	c.Stdin, c.StdinOnce, c.TTY = true, true, true
	c.Lifecycle = &v1.Lifecycle{StopSignal: ptr(v1.Signal("SIGRTMIN+3"))}
	c.TerminationMessagePath = "/dev/termination-log"
	got := r.build(t, pod)
	if !slices.Equal(got.Command, []string{"run", "1", "$(A)", "$(NONE)"}) || !slices.Equal(got.Args, []string{"--x=b1"}) || got.WorkingDir != "/work" {
		t.Errorf("command %q %q in %s", got.Command, got.Args, got.WorkingDir)
	}
	if !got.Stdin || !got.StdinOnce || !got.Tty || got.StopSignal != runtimeapi.Signal_SIGNAL_SIGRTMINPLUS3 {
		t.Errorf("stdin %v, once %v, tty %v, signal %v", got.Stdin, got.StdinOnce, got.Tty, got.StopSignal)
	}
	if got.LogPath != "c/2.log" || got.Metadata.Attempt != 2 || got.Image.Image != "sha256:1" || got.Image.UserSpecifiedImage != "image:1" {
		t.Errorf("log %s, attempt %d, image %v", got.LogPath, got.Metadata.Attempt, got.Image)
	}
	if _, err := os.Stat(filepath.Join(r.cfg.Paths.PodLogs, "ns_p_uid/c")); err != nil {
		t.Error(err)
	}
	message := got.Mounts[len(got.Mounts)-1]
	if info, err := os.Stat(message.HostPath); err != nil || info.Mode() != 0o666 || message.ContainerPath != "/dev/termination-log" {
		t.Errorf("message at %s: %v", message.HostPath, err)
	}
}

func TestEnvironment(t *testing.T) {
	r := newRig(t)
	r.objects.configMaps = map[string]map[string]string{"cm": {"A": "cm", "K": "k"}}
	r.objects.secrets = map[string]map[string][]byte{"s": {"A": []byte("secret"), "S": []byte("s")}}
	r.objects.services = []*v1.Service{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, Spec: v1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []v1.ServicePort{{Name: "https", Port: 443}}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "my-db"}, Spec: v1.ServiceSpec{ClusterIP: "fd00::1", Ports: []v1.ServicePort{{Port: 53, Protocol: v1.ProtocolUDP}, {Name: "m-x", Port: 80}}}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "headless"}, Spec: v1.ServiceSpec{ClusterIP: "None", Ports: []v1.ServicePort{{Port: 1}}}},
	}
	pod := newPod()
	c := &pod.Spec.Containers[0]
	c.Resources.Requests = v1.ResourceList{"cpu": resource.MustParse("100m")}
	c.EnvFrom = []v1.EnvFromSource{
		{Prefix: "P_", ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}},
		{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "none"}, Optional: ptr(true)}},
		{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: "s"}}},
	}
	ref := func(s v1.EnvVarSource) *v1.EnvVarSource { return &s }
	c.Env = []v1.EnvVar{
		{Name: "A", Value: "own"},
		{Name: "HOST", Value: "$(KUBERNETES_SERVICE_HOST):$(P_K)"},
		{Name: "POD_IP", ValueFrom: ref(v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.podIP"}})},
		{Name: "HOST_IP", ValueFrom: ref(v1.EnvVarSource{FieldRef: &v1.ObjectFieldSelector{FieldPath: "status.hostIP"}})},
		{Name: "MEMORY", ValueFrom: ref(v1.EnvVarSource{ResourceFieldRef: &v1.ResourceFieldSelector{Resource: "limits.memory", Divisor: resource.MustParse("1Gi")}})},
		{Name: "KEY", ValueFrom: ref(v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}, Key: "K"}})},
		{Name: "SKEY", ValueFrom: ref(v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Key: "S"}})},
		{Name: "NOKEY", ValueFrom: ref(v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "s"}, Key: "x", Optional: ptr(true)}})},
		{Name: "MY_DB_PORT", Value: "mine"},
	}
	got := variables(r.build(t, pod))
	want := map[string]string{
		"A": "own", "P_A": "cm", "P_K": "k", "S": "s", "HOST": "10.96.0.1:k", "POD_IP": "10.1.0.5", "HOST_IP": "192.0.2.1", "MEMORY": "8", "KEY": "k", "SKEY": "s",
		"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_SERVICE_PORT_HTTPS": "443", "KUBERNETES_PORT": "tcp://10.96.0.1:443",
		"KUBERNETES_PORT_443_TCP": "tcp://10.96.0.1:443", "KUBERNETES_PORT_443_TCP_PROTO": "tcp", "KUBERNETES_PORT_443_TCP_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": "10.96.0.1",
		"MY_DB_SERVICE_HOST": "fd00::1", "MY_DB_SERVICE_PORT": "53", "MY_DB_SERVICE_PORT_M_X": "80", "MY_DB_PORT": "mine",
		"MY_DB_PORT_53_UDP": "udp://[fd00::1]:53", "MY_DB_PORT_53_UDP_PROTO": "udp", "MY_DB_PORT_53_UDP_PORT": "53", "MY_DB_PORT_53_UDP_ADDR": "fd00::1",
		"MY_DB_PORT_80_TCP": "tcp://[fd00::1]:80", "MY_DB_PORT_80_TCP_PROTO": "tcp", "MY_DB_PORT_80_TCP_PORT": "80", "MY_DB_PORT_80_TCP_ADDR": "fd00::1",
	}
	if !maps.Equal(got, want) {
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if got[k] != want[k] {
				t.Errorf("%s is %q, want %q", k, got[k], want[k])
			}
			delete(got, k)
		}
		t.Errorf("beyond it: %v", got)
	}
	pod.Spec.EnableServiceLinks = ptr(false)
	got = variables(r.build(t, pod))
	if _, ok := got["MY_DB_SERVICE_HOST"]; ok || got["KUBERNETES_SERVICE_HOST"] == "" {
		t.Error("without links there are links, or no kubernetes")
	}
}

func TestErrors(t *testing.T) {
	r := newRig(t)
	r.objects.configMaps = map[string]map[string]string{"cm": {}}
	r.objects.secrets = map[string]map[string][]byte{"s": {}}
	r.volumes["v"] = t.TempDir()
	in := func(name string) v1.LocalObjectReference { return v1.LocalObjectReference{Name: name} }
	for _, tc := range []struct {
		name   string
		change func(*v1.Pod, *v1.Container)
		want   string
	}{
		{"config map", func(_ *v1.Pod, c *v1.Container) {
			c.EnvFrom = []v1.EnvFromSource{{ConfigMapRef: &v1.ConfigMapEnvSource{LocalObjectReference: in("x")}}}
		}, `configmap "x" not found`},
		{"secret", func(_ *v1.Pod, c *v1.Container) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: in("x")}}}}
		}, `secret "x" not found`},
		{"config map key", func(_ *v1.Pod, c *v1.Container) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: &v1.ConfigMapKeySelector{LocalObjectReference: in("cm"), Key: "k"}}}}
		}, `couldn't find key k in ConfigMap ns/cm`},
		{"secret key", func(_ *v1.Pod, c *v1.Container) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{SecretKeyRef: &v1.SecretKeySelector{LocalObjectReference: in("s"), Key: "k"}}}}
		}, `couldn't find key k in Secret ns/s`},
		{"image of root", func(p *v1.Pod, _ *v1.Container) { p.Spec.SecurityContext.RunAsNonRoot = ptr(true) },
			`container has runAsNonRoot and image will run as root (pod: "p_ns(uid)", container: c)`},
		{"user root", func(_ *v1.Pod, c *v1.Container) {
			c.SecurityContext = &v1.SecurityContext{RunAsNonRoot: ptr(true), RunAsUser: ptr[int64](0)}
		}, `container's runAsUser breaks non-root policy (pod: "p_ns(uid)", container: c)`},
		{"volume", func(p *v1.Pod, c *v1.Container) {
			c.VolumeMounts = []v1.VolumeMount{{Name: "x", MountPath: "/x"}}
		}, `cannot find volume "x" to mount into container "c"`},
		{"device", func(p *v1.Pod, c *v1.Container) {
			c.VolumeDevices = []v1.VolumeDevice{{Name: "x", DevicePath: "/x"}}
		}, `cannot find volume "x" to pass into container "c"`},
		{"sub-path", func(p *v1.Pod, c *v1.Container) {
			p.Spec.Volumes = []v1.Volume{{Name: "v"}}
			c.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/x", SubPath: "a/../../b"}}
		}, "unable to provision SubPath `a/../../b`: must not contain '..'"},
		{"sub-path expression", func(p *v1.Pod, c *v1.Container) {
			p.Spec.Volumes = []v1.Volume{{Name: "v"}}
			c.Env = []v1.EnvVar{{Name: "EMPTY"}}
			c.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/x", SubPathExpr: "$(Z)/$(EMPTY)/$(Z)"}}
		}, "missing value for EMPTY, Z"},
		{"recursive read-only", func(p *v1.Pod, c *v1.Container) {
			p.Spec.Volumes = []v1.Volume{{Name: "v"}}
			c.VolumeMounts = []v1.VolumeMount{{Name: "v", MountPath: "/x", RecursiveReadOnly: ptr(v1.RecursiveReadOnlyEnabled)}}
		}, `failed to resolve recursive read-only mode: volume "v" requested recursive read-only mode, but it is not read-only`},
		{"environment file", func(p *v1.Pod, c *v1.Container) {
			c.Env = []v1.EnvVar{{Name: "A", ValueFrom: &v1.EnvVarSource{FileKeyRef: &v1.FileKeySelector{VolumeName: "v", Path: "none", Key: "k"}}}}
		}, "couldn't parse env file"},
		{"service links", func(p *v1.Pod, _ *v1.Container) { p.Spec.EnableServiceLinks = nil }, "nil pod.spec.enableServiceLinks encountered, cannot construct envvars"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod := newPod()
			tc.change(pod, &pod.Spec.Containers[0])
			_, err := r.try(pod)
			if err == nil || err.Error() != tc.want || Reason(err) != "CreateContainerConfigError" {
				t.Errorf("got %v, reason %q", err, Reason(err))
			}
		})
	}
	r.objects.fail = context.DeadlineExceeded
	if _, err := r.try(newPod()); err == nil || err.Error() != "services have not yet been read at least once, cannot construct envvars" {
		t.Errorf("services unread: %v", err)
	}
	static := newPod()
	static.Annotations["kubernetes.io/config.source"] = "file"
	if _, err := r.try(static); err != nil {
		t.Errorf("a static Pod waits for services: %v", err)
	}
	if Reason(fmt.Errorf("other")) != "" {
		t.Error("a foreign error has a reason")
	}
}

func TestMounts(t *testing.T) {
	r := newRig(t)
	r.volumes["data"], r.volumes["cm"] = "/host/data", "/host/cm"
	pod := newPod()
	pod.Spec.Volumes = []v1.Volume{
		{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: &v1.EmptyDirVolumeSource{}}},
		{Name: "cm", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{}}},
		{Name: "image", VolumeSource: v1.VolumeSource{Image: &v1.ImageVolumeSource{Reference: "img:1"}}},
	}
	c := &pod.Spec.Containers[0]
	c.Env = []v1.EnvVar{{Name: "A", Value: "x"}}
	c.VolumeMounts = []v1.VolumeMount{
		{Name: "data", MountPath: "rel", MountPropagation: ptr(v1.MountPropagationBidirectional)},
		{Name: "data", MountPath: "/sub", SubPathExpr: "$(A)/y", ReadOnly: true, RecursiveReadOnly: ptr(v1.RecursiveReadOnlyIfPossible)},
		{Name: "cm", MountPath: "/cm", MountPropagation: ptr(v1.MountPropagationHostToContainer)},
		{Name: "image", MountPath: "/image", SubPath: "in"},
	}
	got := r.build(t, pod).Mounts
	want := []runtimeapi.Mount{
		{ContainerPath: "/rel", HostPath: "/host/data", Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL},
		{ContainerPath: "/sub", HostPath: "sub:data/c/1/x/y", Readonly: true, RecursiveReadOnly: true},
		{ContainerPath: "/cm", HostPath: "/host/cm", Readonly: true, Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		{ContainerPath: "/image", Readonly: true, ImageSubPath: "in", Image: &runtimeapi.ImageSpec{Image: "img:1", UserSpecifiedImage: "img:1"}},
		{ContainerPath: "/etc/hosts", HostPath: filepath.Join(r.cfg.Paths.Kubelet, "pods/uid/etc-hosts")},
	}
	if len(got) != len(want) {
		t.Fatalf("%d mounts: %v", len(got), got)
	}
	for i := range want {
		if got[i].String() != want[i].String() {
			t.Errorf("got  %v\nwant %v", got[i], &want[i])
		}
	}
	c.VolumeMounts = []v1.VolumeMount{{Name: "data", MountPath: "/etc/hosts"}}
	if got := r.build(t, pod).Mounts; len(got) != 1 {
		t.Errorf("the container's own hosts file is mounted over: %v", got)
	}
}

func TestManagedHosts(t *testing.T) {
	aliases := []v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b"}}, {IP: "5.6.7.8", Hostnames: []string{"c"}}}
	got := string(managedHosts([]string{"10.1.0.5", "fd00::5"}, "p", "sub.ns.svc.cluster.local", aliases))
	want := `# Kubernetes-managed hosts file.
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
fe00::0	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters
10.1.0.5	p.sub.ns.svc.cluster.local	p
fd00::5	p.sub.ns.svc.cluster.local	p

# Entries added by HostAliases.
1.2.3.4	a	b
5.6.7.8	c
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
	if got := string(managedHosts([]string{"10.1.0.5"}, "p", "", nil)); !strings.HasSuffix(got, "\n10.1.0.5\tp\n") {
		t.Errorf("got\n%s", got)
	}
	if got := string(hostNetworkHosts([]byte("1.1.1.1 one\n"), aliases[1:])); got != "# Kubernetes-managed hosts file (host network).\n1.1.1.1 one\n\n# Entries added by HostAliases.\n5.6.7.8\tc\n" {
		t.Errorf("got\n%s", got)
	}
}

func TestMessageFilesArePruned(t *testing.T) {
	r := newRig(t)
	pod := newPod()
	pod.Spec.Containers[0].TerminationMessagePath = "/m"
	for attempt := range uint32(12) {
		if r.messageMount(Input{Pod: pod, Container: &pod.Spec.Containers[0], Attempt: attempt}) == nil {
			t.Fatal("no message file")
		}
	}
	files, _ := filepath.Glob(filepath.Join(r.cfg.Paths.Kubelet, "pods/uid/containers/c/*"))
	if len(files) != keptMessages {
		t.Errorf("%d files are kept", len(files))
	}
}
