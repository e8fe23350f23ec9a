package why

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/endpointslice"

	"podium.dev/podium/internal/podutil"
)

// AboutService is the area of findings about how a Service leads to its Pods.
const AboutService = "service"

// mostServicePods bounds the Pods of a Service that are explained. The others are counted.
const mostServicePods = 50

// Service reads the facts about a Service and the Pods that it selects.
func (r *Reader) Service(ctx context.Context, namespace, name string) (*Facts, error) {
	s, err := r.Client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read Service %s/%s: %w", namespace, name, err)
	}
	f := &Facts{Now: r.Clock.Now(), Namespace: namespace, Name: name, Service: s}
	f.Events = r.events(ctx, f, namespace, fields.OneTermEqualSelector("involvedObject.uid", string(s.UID)))
	if len(s.Spec.Selector) == 0 {
		endpoints, err := r.Client.CoreV1().Endpoints(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			f.Endpoints = endpoints
		} else if !apierrors.IsNotFound(err) {
			f.note("endpoints", err)
		}
		return f, nil
	}
	list, err := r.Client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(s.Spec.Selector).String()})
	if !f.note("Pods", err) {
		return f, nil
	}
	// Those that do not serve come first: they are what needs an explanation.
	slices.SortStableFunc(list.Items, func(a, b corev1.Pod) int { return cmp.Compare(rank(&a), rank(&b)) })
	for i := range list.Items {
		pod := &list.Items[i]
		switch {
		case !isLive(pod):
		case len(f.Pods) >= mostServicePods:
			f.FurtherPods++
		case podutil.IsReady(pod):
			f.Pods = append(f.Pods, &Facts{Now: f.Now, Namespace: namespace, Name: pod.Name, Pod: pod})
		default:
			f.Pods = append(f.Pods, r.about(ctx, pod))
		}
	}
	return f, nil
}

func rank(pod *corev1.Pod) int {
	if podutil.IsReady(pod) {
		return 1
	}
	return 0
}

// explainService explains why a Service leads nowhere, or to fewer Pods than it selects.
func explainService(f *Facts) Explanation {
	s := f.Service
	out := Explanation{Kind: "Service", Namespace: s.Namespace, Name: s.Name, Unread: f.Unread}
	out.Findings = append(out.Findings, balancerTrouble(f)...)
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		out.Verdict = fmt.Sprintf("it is another name of %s", s.Spec.ExternalName)
	case len(s.Spec.Selector) == 0:
		withoutSelector(f, &out)
	case len(f.Pods) == 0 && len(f.Unread) == 0:
		out.Verdict = "it leads nowhere: no Pod matches its selector"
		out.Findings = append(out.Findings, Finding{
			About: AboutService, Object: "selector", Message: fmt.Sprintf("no Pod of namespace %s has the labels %s", s.Namespace, labels.Set(s.Spec.Selector)),
			Fix: fmt.Sprintf("compare with: kubectl get pods -n %s --show-labels", s.Namespace),
		})
	default:
		selected(f, &out)
	}
	return out
}

// withoutSelector explains a Service whose endpoints its user writes.
func withoutSelector(f *Facts, out *Explanation) {
	addresses := 0
	if f.Endpoints != nil {
		for _, s := range f.Endpoints.Subsets {
			addresses += len(s.Addresses)
		}
	}
	if addresses > 0 {
		out.Verdict = fmt.Sprintf("it leads to %s that its Endpoints list", plural(addresses, "address", "addresses"))
		return
	}
	out.Verdict = "it leads nowhere: it has no selector, and its Endpoints list no address"
	out.Findings = append(out.Findings, Finding{
		About: AboutService, Object: "selector", Message: "without a selector, the endpoints are what a user writes",
		Fix: "set spec.selector to the labels of the Pods, or create Endpoints or EndpointSlices of its name",
	})
}

// selected explains a Service that selects Pods.
func selected(f *Facts, out *Explanation) {
	s := f.Service
	ready := 0
	for _, pod := range f.Pods {
		if podutil.IsReady(pod.Pod) || s.Spec.PublishNotReadyAddresses {
			ready++
			continue
		}
		e := explainPod(pod)
		if e.fine() {
			e.Verdict = "it is not ready"
		}
		out.Pods = append(out.Pods, e)
	}
	if ready > 0 { // those that are not ready were read first
		ready += f.FurtherPods
	}
	all := len(f.Pods) + f.FurtherPods
	lost := portTrouble(f)
	out.Findings = append(out.Findings, lost...)
	switch {
	case ready == 0:
		out.Verdict = fmt.Sprintf("it leads nowhere: none of its %s is ready", plural(all, "Pod", "Pods"))
	case len(lost) > 0:
		out.Verdict = fmt.Sprintf("%d of %s ready, and not all ports lead to them", ready, plural(all, "Pod is", "Pods are"))
	default:
		out.Verdict = fmt.Sprintf("it leads to %d of %s", ready, plural(all, "Pod", "Pods"))
	}
}

// portTrouble returns the ports whose target is the name of a port that Pods do not have.
func portTrouble(f *Facts) (out []Finding) {
	for i := range f.Service.Spec.Ports {
		p := &f.Service.Spec.Ports[i]
		var without, names []string
		for _, pod := range f.Pods {
			if _, err := endpointslice.FindPort(pod.Pod, p); err == nil {
				continue
			}
			without = append(without, pod.Pod.Name)
			for _, c := range pod.Pod.Spec.Containers {
				for _, has := range c.Ports {
					if name := fmt.Sprintf("%s (%d/%s)", cmp.Or(has.Name, "unnamed"), has.ContainerPort, has.Protocol); !slices.Contains(names, name) {
						names = append(names, name)
					}
				}
			}
		}
		if len(without) == 0 {
			continue
		}
		fix := "name the port in the Pods' containers, or set targetPort to its number"
		if len(names) > 0 {
			fix = fmt.Sprintf("the containers have the ports %s; set targetPort to one of them", strings.Join(names, ", "))
		}
		out = append(out, Finding{
			About: AboutService, Object: fmt.Sprintf("port %d", p.Port),
			Message: fmt.Sprintf("no container has a %s port of the name %q, in %s: %s", p.Protocol, p.TargetPort.StrVal, plural(len(without), "Pod", "Pods"), enumerate(without)),
			Fix:     fix,
		})
	}
	return out
}

// balancerTrouble returns why a Service of the type LoadBalancer has no address, or not that of all nodes.
func balancerTrouble(f *Facts) []Finding {
	s := f.Service
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	if failed := f.events("SyncLoadBalancerFailed", "EnsuredLoadBalancer", "UpdatedLoadBalancer"); len(failed) > 0 && failed[0].Reason == "SyncLoadBalancerFailed" {
		return []Finding{{
			About: AboutService, Object: "load balancer", Reason: failed[0].Reason, Message: failed[0].Message, Since: seen(&failed[0]),
			Fix: "use another port, or free the one that is taken",
		}}
	}
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		return nil
	}
	message, fix := "it has no address from outside yet", ""
	if s.Spec.LoadBalancerClass != nil {
		message = fmt.Sprintf("it waits for the implementation of the loadBalancerClass %s", *s.Spec.LoadBalancerClass)
		fix = "install that implementation, or create the Service without loadBalancerClass"
	}
	return []Finding{{About: AboutService, Object: "load balancer", Message: message, Fix: fix}}
}
