package node

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-base/version"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/machine"
	"podium.dev/podium/internal/node/shutdown"
)

// observation is all that a node's status is computed from.
type observation struct {
	Name      string
	Addresses []corev1.NodeAddress
	Port      int32 // of the node server
	Facts     machine.Facts
	MaxPods   int32
	// MaxImages is how many images the status lists, the largest first; -1 for all.
	MaxImages int
	// Reserved is what is not for Pods: kubeReserved, systemReserved and the hard eviction thresholds.
	Reserved corev1.ResourceList
	Runtime  *runtimeapi.StatusResponse
	Version  *runtimeapi.VersionResponse
	// RuntimeErr says why the runtime could not be asked.
	RuntimeErr error
	Images     []*runtimeapi.Image
	Pressure   Pressure
	// Down is that the machine is shutting down.
	Down bool
	Now  metav1.Time
}

// Pressure is what the node is short of.
type Pressure struct{ Memory, Disk, PID bool }

// status computes the node's status. old is what was written last: transition times and what others wrote
// into it are kept.
func status(old corev1.NodeStatus, o observation) corev1.NodeStatus {
	s := *old.DeepCopy()
	s.Addresses = o.Addresses
	s.DaemonEndpoints.KubeletEndpoint.Port = o.Port
	s.Capacity = capacity(s.Capacity, o)
	s.Allocatable = allocatable(s.Capacity, o.Reserved)
	s.NodeInfo = nodeInfo(o)
	s.Images = images(o.Images, o.MaxImages)
	s.RuntimeHandlers = []corev1.NodeRuntimeHandler{{Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: ptr(true), UserNamespaces: ptr(false)}}}
	// What Pods may ask of a node that not every version has, by the names of Kubernetes' gates.
	s.DeclaredFeatures = []string{"RestartAllContainersOnContainerExits"}
	s.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: ptr(true)}
	for _, c := range conditions(o) {
		setCondition(&s, c, o.Now)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// capacity keeps the extended resources that others have written.
func capacity(old corev1.ResourceList, o observation) corev1.ResourceList {
	c := corev1.ResourceList{}
	for name, q := range old {
		if strings.Contains(string(name), "/") {
			c[name] = q
		}
	}
	for name, q := range o.Facts.Capacity {
		c[name] = q
	}
	c[corev1.ResourcePods] = *resource.NewQuantity(int64(o.MaxPods), resource.DecimalSI)
	return c
}

func allocatable(capacity, reserved corev1.ResourceList) corev1.ResourceList {
	a := corev1.ResourceList{}
	for name, q := range capacity {
		q = q.DeepCopy()
		if r, ok := reserved[name]; ok {
			q.Sub(r)
			if q.Sign() < 0 {
				q = *resource.NewQuantity(0, q.Format)
			}
		}
		a[name] = q
	}
	// Huge pages are taken out of the memory that others can use.
	if memory, ok := a[corev1.ResourceMemory]; ok {
		for name, q := range capacity {
			if strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix) {
				memory.Sub(q)
			}
		}
		a[corev1.ResourceMemory] = memory
	}
	return a
}

func nodeInfo(o observation) corev1.NodeSystemInfo {
	info := corev1.NodeSystemInfo{
		MachineID: o.Facts.MachineID, SystemUUID: o.Facts.SystemUUID, BootID: o.Facts.BootID,
		KernelVersion: o.Facts.KernelVersion, OSImage: o.Facts.OSImage,
		KubeletVersion: version.Get().GitVersion, OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH,
	}
	if o.Facts.Swap > 0 {
		info.Swap = &corev1.NodeSwapStatus{Capacity: ptr(o.Facts.Swap)}
	}
	if o.Version != nil {
		info.ContainerRuntimeVersion = o.Version.RuntimeName + "://" + o.Version.RuntimeVersion
	}
	return info
}

func images(all []*runtimeapi.Image, most int) []corev1.ContainerImage {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *runtimeapi.Image) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Id, b.Id))
	})
	var out []corev1.ContainerImage
	if most < 0 {
		most = len(all)
	}
	for _, i := range all[:min(len(all), most)] {
		out = append(out, corev1.ContainerImage{Names: append(slices.Clone(i.RepoDigests), i.RepoTags...), SizeBytes: int64(i.Size)})
	}
	return out
}

// conditions returns the node's conditions in the order in which they are listed, in the kubelet's words.
func conditions(o observation) []corev1.NodeCondition {
	pressure := func(t corev1.NodeConditionType, under bool, yes, no, yesText, noText string) corev1.NodeCondition {
		if under {
			return corev1.NodeCondition{Type: t, Status: corev1.ConditionTrue, Reason: yes, Message: yesText}
		}
		return corev1.NodeCondition{Type: t, Status: corev1.ConditionFalse, Reason: no, Message: noText}
	}
	return []corev1.NodeCondition{
		pressure(corev1.NodeMemoryPressure, o.Pressure.Memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory",
			"kubelet has insufficient memory available", "kubelet has sufficient memory available"),
		pressure(corev1.NodeDiskPressure, o.Pressure.Disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure",
			"kubelet has disk pressure", "kubelet has no disk pressure"),
		pressure(corev1.NodePIDPressure, o.Pressure.PID, "KubeletHasInsufficientPID", "KubeletHasSufficientPID",
			"kubelet has insufficient PID available", "kubelet has sufficient PID available"),
		ready(o),
	}
}

func ready(o observation) corev1.NodeCondition {
	var problems []string
	if o.RuntimeErr != nil {
		problems = append(problems, "container runtime is down: "+o.RuntimeErr.Error())
	}
	for _, c := range o.Runtime.GetStatus().GetConditions() {
		if !c.Status && (c.Type == runtimeapi.RuntimeReady || c.Type == runtimeapi.NetworkReady) {
			problems = append(problems, fmt.Sprintf("container runtime not ready: %s=false reason:%s message:%s", c.Type, c.Reason, c.Message))
		}
	}
	if o.Down {
		problems = append(problems, shutdown.NotReady)
	}
	if problems != nil {
		return corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: strings.Join(problems, ", ")}
	}
	return corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "kubelet is posting ready status"}
}

// setCondition puts c in the place of the condition of its type; the transition time moves only when the
// status does.
func setCondition(s *corev1.NodeStatus, c corev1.NodeCondition, now metav1.Time) {
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for i, old := range s.Conditions {
		if old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}
