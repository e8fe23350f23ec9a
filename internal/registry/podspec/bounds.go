package podspec

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// How long the lists of a Pod may be. Kubernetes has no such limits but the size of what etcd stores, which is room for 10 000
// containers; there each of them is compared with others, owned field by field, reported in every status and started.
const (
	// maxContainers is how many containers of all sorts together: each has a status, which is in every report that another one
	// changed, so that their cost is the square of their number. Pods that people run have ten.
	maxContainers = 256
	// maxVolumes is how many volumes: each is a mount or more on the node, of which Linux allows 100 000 a namespace
	// (sysctl fs.mount-max).
	maxVolumes = 1024
	// maxPorts is how many ports of all containers together: they are compared with each other.
	maxPorts = 4096
	// maxTolerations is how many tolerations: those of a RuntimeClass are merged in by comparing all with all, and the scheduler
	// compares each with each taint.
	maxTolerations = 1024
	// maxSpreads and maxGates are how many topology spread constraints and scheduling gates, which are compared with each other.
	maxSpreads, maxGates = 256, 256
)

// Bounds returns the faults of lists that are too long, in the Pod or the Pod template of an object. It looks at lengths only, so
// it costs nothing before anything else is done with what a client sent. For objects without a Pod's spec there are none.
func Bounds(o runtime.Object) field.ErrorList {
	template := field.NewPath("spec", "template", "spec")
	switch o := o.(type) {
	case *corev1.Pod:
		return bounds(&o.Spec, field.NewPath("spec"))
	case *corev1.PodTemplate:
		return bounds(&o.Template.Spec, field.NewPath("template", "spec"))
	case *corev1.ReplicationController:
		if o.Spec.Template != nil {
			return bounds(&o.Spec.Template.Spec, template)
		}
	case *appsv1.Deployment:
		return bounds(&o.Spec.Template.Spec, template)
	case *appsv1.ReplicaSet:
		return bounds(&o.Spec.Template.Spec, template)
	case *appsv1.DaemonSet:
		return bounds(&o.Spec.Template.Spec, template)
	case *appsv1.StatefulSet:
		return bounds(&o.Spec.Template.Spec, template)
	case *batchv1.Job:
		return bounds(&o.Spec.Template.Spec, template)
	case *batchv1.CronJob:
		return bounds(&o.Spec.JobTemplate.Spec.Template.Spec, field.NewPath("spec", "jobTemplate", "spec", "template", "spec"))
	}
	return nil
}

func bounds(s *corev1.PodSpec, at *field.Path) (faults field.ErrorList) {
	containers, ports := 0, 0
	for c := range Containers(s) {
		containers++
		ports += len(c.Ports)
	}
	longest := "containers"
	if len(s.InitContainers) > len(s.Containers) {
		longest = "initContainers"
	}
	for _, list := range []struct {
		field     string
		have, may int
	}{
		{longest, containers, maxContainers}, {"containers.ports", ports, maxPorts}, {"volumes", len(s.Volumes), maxVolumes}, {"tolerations", len(s.Tolerations), maxTolerations},
		{"topologySpreadConstraints", len(s.TopologySpreadConstraints), maxSpreads}, {"schedulingGates", len(s.SchedulingGates), maxGates},
	} {
		if list.have > list.may {
			faults = append(faults, field.TooMany(at.Child(list.field), list.have, list.may))
		}
	}
	return faults
}
