package node

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
)

func pod(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "sa", ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
			InitContainers: []corev1.Container{{Env: []corev1.EnvVar{{ValueFrom: &corev1.EnvVarSource{
				SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}},
			}}}}},
			Containers: []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "from"},
			}}}}},
			Volumes: []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "volume"}}},
				{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "projected"}}},
				}}}},
			},
		},
	}
}

func boundTo(name, claim string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{
		NodeStageSecretRef:         &corev1.SecretReference{Namespace: "storage", Name: "stage"},
		ControllerPublishSecretRef: &corev1.SecretReference{Namespace: "storage", Name: "controller"},
	}
	if claim != "" {
		pv.Spec.ClaimRef = &corev1.ObjectReference{Namespace: "ns", Name: claim}
	}
	return pv
}

func TestVolumesFollow(t *testing.T) {
	v := newVolumes()
	s := v.sink()
	stage, a := thing{"secrets", "storage", "stage"}, thing{"persistentvolumeclaims", "ns", "a"}
	s.Set(boundTo("one", "a"))
	s.Set(boundTo("two", "a"))
	s.Set(boundTo("one", ""))
	if got := v.claims(stage); !slices.Equal(got, []thing{a}) {
		t.Errorf("the Secret belongs to %v, want %v", got, a)
	}
	s.Remove(boundTo("two", "a"))
	if len(v.all) != 0 || len(v.secrets) != 0 {
		t.Errorf("something is left: %v, %v", v.all, v.secrets)
	}
}

func TestThings(t *testing.T) {
	var got []string
	for _, th := range things(pod("p", "n")) {
		got = append(got, th.resource+"/"+th.name)
	}
	want := []string{"pods/p", "serviceaccounts/sa", "secrets/pull", "secrets/env", "configmaps/from", "secrets/volume", "configmaps/projected"}
	if !slices.Equal(got, want) {
		t.Errorf("things = %v, want %v", got, want)
	}
	mirror := pod("p", "n")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	if got := things(mirror); len(got) != 1 {
		t.Errorf("a mirror Pod opens %v to its node", got)
	}
}

func TestRelationsFollowThePods(t *testing.T) {
	r := newRelations()
	s := r.sink()
	secret := thing{"secrets", "ns", "volume"}
	s.Set(pod("a", ""))
	if r.related("n", secret) {
		t.Error("a Pod without a node opened something")
	}
	s.Set(pod("a", "n"))
	s.Set(pod("b", "n"))
	s.Set(pod("b", "n"))
	s.Remove(pod("a", "n"))
	if !r.related("n", secret) || r.related("other", secret) {
		t.Error("the second Pod's secret is not open, or is to another node")
	}
	s.Remove(pod("b", "n"))
	if r.related("n", secret) || len(r.nodes) != 0 || len(r.pods) != 0 {
		t.Errorf("something is left: %v", r.nodes)
	}
}

func TestDecisions(t *testing.T) {
	a := New(nil)
	a.stores = func(schema.GroupResource) *genericregistry.Store { return nil }
	p := pod("p", "n")
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "claim"},
	}})
	a.relations.sink().Set(p)
	a.volumes.sink().Replace([]*corev1.PersistentVolume{boundTo("mine", "claim"), boundTo("other", "elsewhere"), boundTo("free", "")})
	own := fields.Requirements{{Field: "spec.nodeName", Operator: selection.Equals, Value: "n"}}
	for name, c := range map[string]struct {
		a    authorizer.AttributesRecord
		want string // "" for yes, else part of why not
	}{
		"secret of its Pod":     {authorizer.AttributesRecord{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "volume"}, ""},
		"watch of one secret":   {authorizer.AttributesRecord{Verb: "watch", Resource: "secrets", Namespace: "ns", Name: "volume"}, ""},
		"another secret":        {authorizer.AttributesRecord{Verb: "get", Resource: "secrets", Namespace: "ns", Name: "x"}, "no relationship found between node 'n' and this object"},
		"all secrets":           {authorizer.AttributesRecord{Verb: "list", Resource: "secrets", Namespace: "ns"}, "No Object name found"},
		"write a secret":        {authorizer.AttributesRecord{Verb: "update", Resource: "secrets", Namespace: "ns", Name: "volume"}, "can only read resources of this type"},
		"token":                 {authorizer.AttributesRecord{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "ns", Name: "sa"}, ""},
		"token of another":      {authorizer.AttributesRecord{Verb: "create", Resource: "serviceaccounts", Subresource: "token", Namespace: "ns", Name: "x"}, "no relationship"},
		"its Pods":              {authorizer.AttributesRecord{Verb: "list", Resource: "pods", FieldSelectorRequirements: own}, ""},
		"all Pods":              {authorizer.AttributesRecord{Verb: "list", Resource: "pods"}, "can only list/watch pods with spec.nodeName field selector"},
		"its Node":              {authorizer.AttributesRecord{Verb: "get", Resource: "nodes", Name: "n"}, ""},
		"another Node":          {authorizer.AttributesRecord{Verb: "get", Resource: "nodes", Name: "m"}, "node 'n' cannot read 'm', only its own Node object"},
		"delete its Node":       {authorizer.AttributesRecord{Verb: "delete", Resource: "nodes", Name: "n"}, "-"},
		"its Lease":             {authorizer.AttributesRecord{Verb: "update", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "n"}, ""},
		"another Lease":         {authorizer.AttributesRecord{Verb: "update", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "m"}, "with the same name"},
		"a Lease of elsewhere":  {authorizer.AttributesRecord{Verb: "get", APIGroup: "coordination.k8s.io", Resource: "leases", Namespace: "ns", Name: "n"}, `in the "kube-node-lease" system namespace`},
		"its volume":            {authorizer.AttributesRecord{Verb: "get", Resource: "persistentvolumes", Name: "mine"}, ""},
		"its volume's secret":   {authorizer.AttributesRecord{Verb: "get", Resource: "secrets", Namespace: "storage", Name: "stage"}, ""},
		"a controller's secret": {authorizer.AttributesRecord{Verb: "get", Resource: "secrets", Namespace: "storage", Name: "controller"}, "no relationship"},
		"another's volume":      {authorizer.AttributesRecord{Verb: "get", Resource: "persistentvolumes", Name: "other"}, "no relationship"},
		"a free volume":         {authorizer.AttributesRecord{Verb: "get", Resource: "persistentvolumes", Name: "free"}, "no relationship"},
		"all volumes":           {authorizer.AttributesRecord{Verb: "list", Resource: "persistentvolumes"}, "can only get individual resources of this type"},
		"change its volume":     {authorizer.AttributesRecord{Verb: "update", Resource: "persistentvolumes", Name: "mine"}, "can only get individual resources of this type"},
		"its volume's status":   {authorizer.AttributesRecord{Verb: "get", Resource: "persistentvolumes", Subresource: "status", Name: "mine"}, "cannot get subresource"},
		"a volume":              {authorizer.AttributesRecord{Verb: "get", Resource: "persistentvolumes", Name: "v"}, "no relationship"},
		"what no rule is about": {authorizer.AttributesRecord{Verb: "get", Resource: "things"}, "-"},
	} {
		c.a.User = &user.DefaultInfo{Name: "system:node:n", Groups: []string{"system:nodes"}}
		c.a.ResourceRequest = true
		decision, why, err := a.Authorize(context.Background(), c.a)
		if err != nil {
			t.Fatal(err)
		}
		yes := decision == authorizer.DecisionAllow
		if yes != (c.want == "") || c.want != "-" && !strings.Contains(why, c.want) {
			t.Errorf("%s: %v, %q, want %q", name, decision, why, c.want)
		}
	}
}

func TestForbiddenLabels(t *testing.T) {
	old := map[string]string{"keep.kubernetes.io/x": "1", "own": "1"}
	now := map[string]string{
		"keep.kubernetes.io/x": "1", "other": "2", "kubernetes.io/hostname": "n", "node.kubernetes.io/x": "y",
		"node-restriction.kubernetes.io/a": "b", "x.k8s.io/a": "b",
	}
	got := forbiddenLabels(now, old)
	want := []string{"node-restriction.kubernetes.io/a", "x.k8s.io/a"}
	if !slices.Equal(got, want) {
		t.Errorf("forbidden = %v, want %v", got, want)
	}
}
