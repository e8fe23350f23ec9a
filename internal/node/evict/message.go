package evict

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
)

// Reason is why a Pod that is ended or not taken in for the node's sake has failed.
const Reason = "Evicted"

// explain says why the Pod is ended, and in annotations of the event who used what. short is the resource that was
// short, due are the thresholds that were met, seen what they were met by.
func explain(short v1.ResourceName, p *v1.Pod, usage Usage, due []Threshold, seen Observations) (message string, notes map[string]string) {
	var text strings.Builder
	notes = map[string]string{}
	fmt.Fprintf(&text, "The node was low on resource: %v. ", short)
	if wanted, have, found := shortfall(short, due, seen); found {
		fmt.Fprintf(&text, "Threshold quantity: %v, available: %v. ", &wanted, &have)
	}
	use, known := usage(p)
	if !known {
		return text.String(), notes
	}
	if used, requested, larger := podShare(short, p, &use); larger {
		fmt.Fprintf(&text, "Pod %s was using %s, request is %s, has larger consumption of %v. ", p.Name, used, &requested, short)
		notes["offending_pod"], notes["offending_pod_usage"] = p.Name, used.String()
	}
	var names, uses []string
	for i := range use.Containers {
		name := use.Containers[i].Name
		spec := containerOf(p, name)
		used := containerUse(short, &use.Containers[i])
		if spec == nil || used == nil {
			continue
		}
		requested := spec.Resources.Requests[short]
		if used.Cmp(requested) > 0 {
			fmt.Fprintf(&text, "Container %s was using %s, request is %s, has larger consumption of %v. ", name, used, &requested, short)
			names, uses = append(names, name), append(uses, used.String())
		}
	}
	notes["offending_containers"] = strings.Join(names, ",")
	notes["offending_containers_usage"] = strings.Join(uses, ",")
	notes["starved_resource"] = string(short)
	return text.String(), notes
}

// shortfall is what there should have been of a resource, and what there was, by the first threshold that is about it.
func shortfall(short v1.ResourceName, due []Threshold, seen Observations) (wanted, have resource.Quantity, found bool) {
	for i := range due {
		if o, ok := seen[due[i].Signal]; ok && due[i].Signal.resource() == short {
			return due[i].quantity(o, false), o.Available, true
		}
	}
	return wanted, have, false
}

// podShare is what a Pod that requests memory as a whole uses of it.
func podShare(short v1.ResourceName, p *v1.Pod, use *stats.PodStats) (used *resource.Quantity, requested resource.Quantity, ok bool) {
	if short != v1.ResourceMemory || use.Memory == nil || !resourcehelper.IsPodLevelResourcesSet(p) {
		return nil, requested, false
	}
	requested, ok = p.Spec.Resources.Requests[short]
	return bytesOf(memoryOf(use)), requested, ok
}

// containerUse is what a container uses of a resource; nil for what is not known, or not counted by container.
func containerUse(short v1.ResourceName, c *stats.ContainerStats) *resource.Quantity {
	switch short {
	case v1.ResourceMemory:
		if c.Memory != nil && c.Memory.WorkingSetBytes != nil {
			return bytesOf(value(c.Memory.WorkingSetBytes))
		}
	case v1.ResourceEphemeralStorage:
		if c.Rootfs != nil && c.Rootfs.UsedBytes != nil && c.Logs != nil && c.Logs.UsedBytes != nil {
			return bytesOf(value(c.Rootfs.UsedBytes) + value(c.Logs.UsedBytes))
		}
	}
	return nil
}

// containerOf returns a container or init container of the Pod; ephemeral ones request nothing and are never
// blamed.
func containerOf(p *v1.Pod, name string) *v1.Container {
	for _, list := range [][]v1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		if i := slices.IndexFunc(list, func(c v1.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}
