package static

import (
	"context"
	"sync/atomic"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/clock"
)

var realClock = clock.RealClock{}

// reflect runs Mirrors against a client, and tells them of what changes there.
func reflect(t *testing.T, client *fake.Clientset, running func(string, string) bool) *Mirrors {
	t.Helper()
	m := NewMirrors(MirrorConfig{
		Client: client, NodeName: "node", NodeUID: func() (types.UID, bool) { return "node-uid", true }, Sources: []string{SourceFile, SourceURL}, Running: running,
	})
	w, err := client.CoreV1().Pods("").Watch(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for e := range w.ResultChan() {
			if pod, ok := e.Object.(*v1.Pod); ok && e.Type == watch.Deleted {
				m.Gone(pod)
			} else if ok {
				m.Observe(pod)
			}
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done; w.Stop() })
	return m
}

func staticPod(t *testing.T, image string) *v1.Pod {
	t.Helper()
	said, err := configFor("", &heard{}, nil).parse([]byte(manifest("a", image)), SourceFile, "f")
	if err != nil {
		t.Fatal(err)
	}
	return said.pods[0]
}

func mirrorOf(client *fake.Clientset) *v1.Pod {
	pod, err := client.CoreV1().Pods("default").Get(context.Background(), "a-node", metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return pod
}

func TestMirror(t *testing.T) {
	client := fake.NewClientset()
	m := reflect(t, client, nil)
	one := staticPod(t, "a:1")
	m.SetPods(SourceFile, []*v1.Pod{one})
	eventually(t, "mirror", func() bool { return mirrorOf(client) != nil })
	got := mirrorOf(client)
	if got.Annotations[v1.MirrorPodAnnotationKey] != string(one.UID) || got.Annotations[annotationSource] != "file" || got.Spec.NodeName != "Node" || got.Status.Phase != "" {
		t.Errorf("%+v", got)
	}
	if o := got.OwnerReferences; len(o) != 1 || o[0].Kind != "Node" || o[0].UID != "node-uid" || !*o[0].Controller {
		t.Errorf("owners %+v", o)
	}
	// Deleted by a user, it comes back.
	if err := client.CoreV1().Pods("default").Delete(context.Background(), "a-node", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	creates := func() (n int) {
		for _, a := range client.Actions() {
			if a.GetVerb() == "create" {
				n++
			}
		}
		return n
	}
	eventually(t, "mirror again", func() bool { return creates() == 2 && mirrorOf(client) != nil })
	// Another content has another mirror.
	two := staticPod(t, "a:2")
	m.SetPods(SourceFile, []*v1.Pod{two})
	eventually(t, "new mirror", func() bool {
		got := mirrorOf(client)
		return got != nil && got.Annotations[v1.MirrorPodAnnotationKey] == string(two.UID)
	})
	// It goes when the Pod is gone, and all sources have spoken.
	m.SetPods(SourceFile, nil)
	m.SetPods(SourceURL, nil)
	eventually(t, "no mirror", func() bool { return mirrorOf(client) == nil })
}

func TestMirrorThatIsBeingDeletedIsMadeAnew(t *testing.T) {
	one := staticPod(t, "a:1")
	old := one.DeepCopy()
	old.UID, old.DeletionTimestamp, old.Finalizers = "old", &metav1.Time{Time: realClock.Now()}, []string{"x"}
	old.Annotations[v1.MirrorPodAnnotationKey] = string(one.UID)
	client := fake.NewClientset(old)
	m := reflect(t, client, nil)
	m.Observe(old)
	m.SetPods(SourceFile, []*v1.Pod{one})
	eventually(t, "new mirror", func() bool { got := mirrorOf(client); return got != nil && got.DeletionTimestamp == nil })
}

func TestOrphanWaitsForTheEnd(t *testing.T) {
	orphan := staticPod(t, "a:1")
	orphan.Annotations[v1.MirrorPodAnnotationKey] = string(orphan.UID)
	client := fake.NewClientset(orphan)
	var running atomic.Bool
	running.Store(true)
	var asked atomic.Int32
	m := reflect(t, client, func(namespace, name string) bool { asked.Add(1); return running.Load() })
	m.Observe(orphan)
	m.SetPods(SourceFile, nil)
	m.SetPods(SourceURL, nil)
	eventually(t, "question", func() bool { return asked.Load() > 0 })
	if mirrorOf(client) == nil {
		t.Fatal("the mirror of a Pod that runs is gone")
	}
	running.Store(false)
	m.Ended("default", "a-node")
	eventually(t, "no mirror", func() bool { return mirrorOf(client) == nil })
}

func TestForeignPodStays(t *testing.T) {
	foreign := staticPod(t, "a:1")
	foreign.Annotations = nil
	client := fake.NewClientset(foreign)
	m := reflect(t, client, nil)
	m.Observe(foreign)
	if err := m.reconcile(context.Background(), nameOf(foreign)); err != nil {
		t.Fatal(err)
	}
	err := m.create(context.Background(), staticPod(t, "a:2"))
	if err == nil || err.Error() != "mirror pod default/a-node: a pod of that name exists" {
		t.Errorf("%v", err)
	}
}
