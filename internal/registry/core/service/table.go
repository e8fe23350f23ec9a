package service

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

func table() *kit.Table[*corev1.Service] {
	doc := corev1.ServiceSpec{}.SwaggerDoc()
	return &kit.Table[*corev1.Service]{
		Columns: []column.Definition{
			column.Name(),
			column.Text("Type", doc["type"]),
			column.Text("Cluster-IP", doc["clusterIP"]),
			column.Text("External-IP", doc["externalIPs"]),
			column.Text("Port(s)", doc["ports"]),
			column.Age(),
			column.Wide(column.Text("Selector", doc["selector"])),
		},
		Row: func(s *corev1.Service) ([]any, []metav1.TableRowCondition) {
			ip := column.None
			if len(s.Spec.ClusterIPs) > 0 {
				ip = s.Spec.ClusterIPs[0]
			}
			return []any{
				s.Name, string(s.Spec.Type), ip, outside(s), column.OrNone(portList(s.Spec.Ports)),
				column.Since(s.CreationTimestamp), labels.FormatLabels(s.Spec.Selector),
			}, nil
		},
	}
}

// outside formats the addresses at which the service can be reached from outside the cluster.
func outside(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		return column.OrNone(strings.Join(s.Spec.ExternalIPs, ","))
	case corev1.ServiceTypeLoadBalancer:
		if all := append(balancers(s), s.Spec.ExternalIPs...); len(all) > 0 {
			return strings.Join(all, ",")
		}
		return "<pending>"
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	}
	return column.Unknown
}

func balancers(s *corev1.Service) []string {
	found := sets.New[string]()
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			found.Insert(in.IP)
		} else if in.Hostname != "" {
			found.Insert(in.Hostname)
		}
	}
	return sets.List(found)
}

func portList(ports []corev1.ServicePort) string {
	pieces := make([]string, len(ports))
	for i, p := range ports {
		if pieces[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol); p.NodePort > 0 {
			pieces[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	return strings.Join(pieces, ",")
}
