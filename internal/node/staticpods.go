package node

import (
	"context"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"podium.dev/podium/internal/node/static"
	"podium.dev/podium/internal/podutil"
)

// sources says where static Pods come from.
func (n *Node) sources() static.Config {
	k := n.c.Kubelet
	header := http.Header{}
	for name, values := range k.StaticPodURLHeader {
		for _, v := range values {
			header.Add(name, v)
		}
	}
	return static.Config{
		NodeName: n.c.Name, Path: k.StaticPodPath, PathFrequency: k.FileCheckFrequency.Duration,
		URL: k.StaticPodURL, Header: header, URLFrequency: k.HTTPCheckFrequency.Duration,
		Default: n.c.DefaultPod, Check: n.c.CheckPod,
		DefaultObject: n.c.DefaultObject, CheckObject: n.c.CheckObject, Objects: n.objects.SetLocal,
		Sink: func(source string, pods []*corev1.Pod) {
			n.workers.SetPods(source, pods)
			n.mirrors.SetPods(source, pods)
		},
		Recorder: n.recorder, Node: n.reference, Clock: n.c.Clock,
	}
}

// reference names the node in events; until its UID is known, its name stands for that.
func (n *Node) reference() *corev1.ObjectReference {
	uid, known := n.objectUID()
	if !known {
		uid = types.UID(n.c.Name)
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.c.Name, UID: uid}
}

// objectUID is the UID of the Node object; false while it is not known.
func (n *Node) objectUID() (types.UID, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.uid, n.uid != ""
}

// runsStatic reports whether a static Pod of the name runs, or ends.
func (n *Node) runsStatic(namespace, name string) bool {
	p, ok := n.workers.PodByName(namespace, name)
	return ok && podutil.IsStatic(p)
}

// staticEnded lets the mirror of a static Pod go when the Pod has ended.
func (n *Node) staticEnded(p *corev1.Pod) {
	if podutil.IsStatic(p) {
		n.mirrors.Ended(p.Namespace, p.Name)
	}
}

// runtimeHandler returns the runtime handler of a RuntimeClass.
func (n *Node) runtimeHandler(ctx context.Context, class string) (string, error) {
	rc, err := n.c.Client.NodeV1().RuntimeClasses().Get(ctx, class, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return rc.Handler, nil
}
