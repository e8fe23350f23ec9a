// Package paths defines where everything of a Podium node lives on disk.
package paths

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// DefaultRoot is the root folder used when none is given.
const DefaultRoot = "/var/lib/podium"

// Paths are the absolute paths of one node. Podium writes nothing anywhere else.
type Paths struct {
	// ID distinguishes the nodes of one machine in names that are shared by the whole machine (bridge, nft
	// table, cgroup): "podium" for the default root, "podium-" and eight hex digits of the root's hash for
	// others.
	ID string
	// CgroupParent is the cgroup above "kubepods", relative to the root of each hierarchy: "/" for the default
	// root, "/ID" for others.
	CgroupParent string
	// Root is the node's own folder, 0700.
	Root string
	// Run holds sockets, pid files, network namespaces and mounts: state that a reboot may clear.
	Run string
	// Etcd is the data folder of the embedded store.
	Etcd string
	// PKI holds the CA, the components' certificates and the service-account key, 0700.
	PKI string
	// AdminKubeconfig is the admin's kubeconfig, 0600.
	AdminKubeconfig string
	// Kubelet is the kubelet's folder: pods/UID/volumes, config.yaml, checkpoints.
	Kubelet string
	// Pods holds the volumes and other files of each Pod, in a folder named after its UID.
	Pods string
	// PullRecords holds what the node pulled and with which credentials (KEP-2535).
	PullRecords string
	// HookMarks holds a mark for each lifecycle hook that has run, so that none runs again after a restart.
	HookMarks string
	// Allocations holds the resources that the node has granted to each Pod.
	Allocations string
	// KubeletConfig is the node's KubeletConfiguration file.
	KubeletConfig string
	// Manifests is the default staticPodPath.
	Manifests string
	// PodLogs is the folder of the log files NS_NAME_UID/CONTAINER/N.log.
	PodLogs string
	// ContainerLogs holds the links NAME_NS_CONTAINER-ID.log to them.
	ContainerLogs string
	// Images is the folder from which archives (docker-save, OCI layout) are loaded automatically.
	Images string
	// ImageStore holds the content store, metadata and snapshots.
	ImageStore string
	// Runtime is the runtime's persistent state, with a folder per sandbox and per container.
	Runtime string
	// CRISocket is where CRI is served over gRPC.
	CRISocket string
	// ControlSocket is the daemon's own control socket. There is one daemon per root.
	ControlSocket string
	// Network is the state of the built-in network: address leases.
	Network string
	// CNIConf and CNIBin are the CNI folders; a configuration in CNIConf replaces the built-in network.
	CNIConf, CNIBin string
	// Registries is the folder of HOST/hosts.toml files.
	Registries string
}

// For returns the paths of a node. The default root uses Kubernetes' own paths outside it. With any other root,
// which must be an absolute path, everything lives below that root.
func For(root string) Paths {
	if root == "" || root == DefaultRoot {
		p := layout(DefaultRoot, "/run/podium", "/var/lib/kubelet", "/etc/kubernetes/manifests", "/var/log",
			"/etc/cni/net.d", "/opt/cni/bin", "/etc/containerd/certs.d")
		p.ID, p.CgroupParent = "podium", "/"
		return p
	}
	in := func(p string) string { return filepath.Join(root, p) }
	p := layout(root, in("run"), in("kubelet"), in("manifests"), in("log"), in("cni/net.d"), "/opt/cni/bin", in("registries"))
	sum := sha256.Sum256([]byte(root))
	p.ID = "podium-" + hex.EncodeToString(sum[:4])
	p.CgroupParent = "/" + p.ID
	return p
}

func layout(root, run, kubelet, manifests, log, cniConf, cniBin, registries string) Paths {
	return Paths{
		Root:            root,
		Run:             run,
		Etcd:            filepath.Join(root, "etcd"),
		PKI:             filepath.Join(root, "pki"),
		AdminKubeconfig: filepath.Join(root, "admin.kubeconfig"),
		Kubelet:         kubelet,
		Pods:            filepath.Join(kubelet, "pods"),
		PullRecords:     filepath.Join(kubelet, "image_manager"),
		HookMarks:       filepath.Join(kubelet, "hooks"),
		Allocations:     filepath.Join(kubelet, "allocations"),
		KubeletConfig:   filepath.Join(kubelet, "config.yaml"),
		Manifests:       manifests,
		PodLogs:         filepath.Join(log, "pods"),
		ContainerLogs:   filepath.Join(log, "containers"),
		Images:          filepath.Join(root, "images"),
		ImageStore:      filepath.Join(root, "image-store"),
		Runtime:         filepath.Join(root, "runtime"),
		CRISocket:       filepath.Join(run, "podium.sock"),
		ControlSocket:   filepath.Join(run, "control.sock"),
		Network:         filepath.Join(root, "network"),
		CNIConf:         cniConf,
		CNIBin:          cniBin,
		Registries:      registries,
	}
}

// Owned returns the folders that hold nothing but the node's own files, and that are removed with the node.
func (p Paths) Owned() []string {
	return []string{p.Pods, p.PullRecords, p.HookMarks, p.Allocations, p.Run, p.Root}
}
