package pod

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/podspec"
)

// podGetter reads Pods of the request's namespace.
type podGetter interface {
	Get(ctx context.Context, name string, options *metav1.GetOptions) (runtime.Object, error)
}

func getPod(ctx context.Context, pods podGetter, name string) (*corev1.Pod, error) {
	obj, err := pods.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("Unexpected object type: %#v", obj) //nolint:staticcheck // Kubernetes' words
	}
	return pod, nil
}

// reach finds the node server where a Pod's containers are.
type reach struct {
	pods  podGetter
	nodes kit.NodeConnector
}

// at returns the address of a path on the Pod's node, and how to get there.
func (r reach) at(ctx context.Context, node, path string, query url.Values) (*url.URL, http.RoundTripper, error) {
	if r.nodes == nil {
		return nil, nil, errors.NewServiceUnavailable("no way to the nodes is set up")
	}
	base, transport, err := r.nodes.Node(ctx, node)
	if err != nil {
		return nil, nil, err
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawQuery: query.Encode()}, transport, nil
}

// container returns the name of the container that a request means: the one it names, or the only one.
func container(pod *corev1.Pod, name string) (string, error) {
	switch {
	case name != "" && !podspec.HasContainer(&pod.Spec, name):
		return "", errors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
	case name != "":
		return name, nil
	case len(pod.Spec.Containers) == 1:
		return pod.Spec.Containers[0].Name, nil
	case len(pod.Spec.Containers) == 0:
		return "", errors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	}
	return "", errors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, podspec.ContainerNames(&pod.Spec)))
}
