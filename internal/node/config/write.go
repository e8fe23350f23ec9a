package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"podium.dev/podium/internal/paths"
	"podium.dev/podium/internal/util/atomicfile"
)

// Values are what the first settings of a node say; the rest is left to the defaults.
type Values struct {
	// StaticPodPath is the folder of static Pods, PodLogsDir that of the logs.
	StaticPodPath, PodLogsDir string
	// ResolverConfig is the file that Pods' name servers are taken from; "" for the machine's own.
	ResolverConfig string
	// ClusterDomain is the domain of Services, ClusterDNS the servers that know it; none for a cluster without.
	ClusterDomain string
	ClusterDNS    []string
	// Port is the node's own; 0 for the default.
	Port int32
	// Spare is how much of the disk is kept free; "" for what suits the machine.
	Spare string
}

// The limits of processes that the first settings have.
const (
	// firstPodPids is enough for a Pod of a Java server with a thread per request, and an eighth of the process IDs of a machine
	// with the kernel's default, 32768 (proc_pid_max(5)). OpenShift and GKE have the same number.
	firstPodPids = 4096
	// firstSparePids is what stays free for the machine itself: its daemons and shells need hundreds, not thousands.
	firstSparePids = "10%"
)

// PodPids and SparePids are read by the template.
func (Values) PodPids() int      { return firstPodPids }
func (Values) SparePids() string { return firstSparePids }

// The settings that differ from Kubernetes' defaults are those that a kubelet's installer would set.
var first = template.Must(template.New("config.yaml").Parse(`# The settings of this node. They are read when it starts.
# All that may stand here: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration

# Manifests in this folder run as static Pods, whether or not an API server can be reached.
staticPodPath: {{printf "%q" .StaticPodPath}}
podLogsDir: {{printf "%q" .PodLogsDir}}
{{- if .Port}}

# Where the API server reaches this node for logs and exec.
port: {{.Port}}
{{- end}}

# The names that Pods can look up.
resolvConf: {{printf "%q" .ResolverConfig}}
{{- if .ClusterDomain}}
clusterDomain: {{printf "%q" .ClusterDomain}}
{{- end}}
{{- if .ClusterDNS}}
clusterDNS:
{{- range .ClusterDNS}}
- {{printf "%q" .}}
{{- end}}
{{- end}}

# Containers that ask for no seccomp profile get the runtime's.
seccompDefault: true
# Images are pulled side by side.
serializeImagePulls: false
# The node starts on machines with swap; Pods use it only where memorySwap says so.
failSwapOn: false

# How many processes and threads one Pod may have. Kubernetes sets no limit, and then one fork bomb takes every process ID of
# the machine, and with them the node's own and everybody's shell. -1 is no limit.
podPidsLimit: {{.PodPids}}

# When the node runs short it ends Pods, and before that it removes images that nobody uses. Kubernetes' own defaults
# keep 15 % of the disk free, which is made for machines that run nothing else.
evictionHard:
  memory.available: 100Mi
  nodefs.available: {{.Spare}}
  nodefs.inodesFree: 5%
  imagefs.available: {{.Spare}}
  imagefs.inodesFree: 5%
  # Many Pods together can still use up the process IDs, each within its limit.
  pid.available: {{.SparePids}}
imageGCHighThresholdPercent: 95
imageGCLowThresholdPercent: 90
`))

// WriteDefault writes the first settings of a node, unless there is a file; it reports whether it wrote one.
// A file that was cut off by a crash is never seen: it appears whole.
func WriteDefault(path string, v Values) (written bool, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if v.ResolverConfig == "" {
		v.ResolverConfig = resolver()
	}
	var content bytes.Buffer
	if err := first.Execute(&content, v); err != nil {
		return false, fmt.Errorf("write the node's first settings: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, fmt.Errorf("write the node's first settings: %w", err)
	}
	if err := atomicfile.Write(path, content.Bytes(), 0o644, atomicfile.PowerCut); err != nil {
		return false, fmt.Errorf("write the node's first settings: %w", err)
	}
	return true, nil
}

// resolver is the file with the machine's name servers. That of systemd's stub names the machine itself,
// which is no server to a Pod: the file behind it is meant.
func resolver() string {
	const behindStub = "/run/systemd/resolve/resolv.conf"
	if _, err := os.Stat(behindStub); err == nil {
		return behindStub
	}
	return "/etc/resolv.conf"
}

// spare is how much of a disk is kept free: a twentieth, and no more than lets a node work, 1 GiB.
func spare(disk resource.Quantity) string {
	const most, share = 1 << 30, 20
	size := int64(most)
	if bytes := disk.Value(); bytes > 0 {
		size = min(size, bytes/share)
	}
	return resource.NewQuantity(size>>20<<20, resource.BinarySI).String()
}

// Ensure returns the settings of the node that lives at p. Where there are none it writes the first ones,
// and makes the folder of static Pods that they name.
func Ensure(p paths.Paths, v Values, m Machine) (*kubeletconfig.KubeletConfiguration, error) {
	if v.StaticPodPath == "" {
		v.StaticPodPath = p.Manifests
	}
	if v.PodLogsDir == "" {
		v.PodLogsDir = p.PodLogs
	}
	if v.Spare == "" {
		v.Spare = spare(m.Capacity[v1.ResourceEphemeralStorage])
	}
	written, err := WriteDefault(p.KubeletConfig, v)
	if err == nil && written {
		err = os.MkdirAll(v.StaticPodPath, 0o755)
	}
	if err != nil {
		return nil, err
	}
	return Read(p, m)
}
