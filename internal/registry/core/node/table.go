package node

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// rolePrefix is the prefix of labels that end in a role. roleLabel is the label whose value is a role.
const (
	rolePrefix = "node-role.kubernetes.io/"
	roleLabel  = "kubernetes.io/role"
)

func table() *kit.Table[*corev1.Node] {
	info, parts := corev1.NodeSystemInfo{}.SwaggerDoc(), corev1.NodeStatus{}.SwaggerDoc()
	return &kit.Table[*corev1.Node]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Status", "The status of the node"),
			column.Text("Roles", "The roles of the node"),
			column.Age(),
			column.Text("Version", info["kubeletVersion"]),
			column.Wide(column.Text("Internal-IP", parts["addresses"])),
			column.Wide(column.Text("External-IP", parts["addresses"])),
			column.Wide(column.Text("OS-Image", info["osImage"])),
			column.Wide(column.Text("Kernel-Version", info["kernelVersion"])),
			column.Wide(column.Text("Container-Runtime", info["containerRuntimeVersion"])),
		},
		Row: row,
	}
}

func row(n *corev1.Node) ([]any, []metav1.TableRowCondition) {
	info := n.Status.NodeInfo
	kernel := column.OrUnknown(info.KernelVersion)
	if info.Architecture != "" {
		kernel += " (" + info.Architecture + ")"
	}
	return []any{
		n.Name, state(n), column.OrNone(strings.Join(roles(n.Labels), ",")), column.Since(n.CreationTimestamp), info.KubeletVersion,
		column.OrNone(address(n, corev1.NodeInternalIP)), column.OrNone(address(n, corev1.NodeExternalIP)),
		column.OrUnknown(info.OSImage), kernel, column.OrUnknown(info.ContainerRuntimeVersion),
	}, nil
}

// state formats whether the node is ready, as far as it has reported, and whether it is schedulable.
func state(n *corev1.Node) string {
	state := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if state = "NotReady"; c.Status == corev1.ConditionTrue {
			state = "Ready"
		}
	}
	if n.Spec.Unschedulable {
		state += ",SchedulingDisabled"
	}
	return state
}

func roles(labels map[string]string) []string {
	roles := sets.New[string]()
	for key, value := range labels {
		if role, ok := strings.CutPrefix(key, rolePrefix); ok && role != "" {
			roles.Insert(role)
		} else if key == roleLabel && value != "" {
			roles.Insert(value)
		}
	}
	return sets.List(roles)
}

// address returns the first address of the type, or "" if there is none.
func address(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return ""
}
