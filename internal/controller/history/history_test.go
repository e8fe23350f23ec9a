package history

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"

	"podium.dev/podium/internal/registry/podspec"
)

var setKind = appsv1.SchemeGroupVersion.WithKind("StatefulSet")

func newSet(image string) *appsv1.StatefulSet {
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "ns", UID: "s", Annotations: map[string]string{"kubernetes.io/change-cause": "to " + image}}}
	set.Spec.Template.Labels = map[string]string{"app": "db"}
	set.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
	podspec.DefaultTemplate(&set.Spec.Template)
	return set
}

func patchOf(t *testing.T, set *appsv1.StatefulSet) []byte {
	t.Helper()
	data, err := TemplatePatch(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// numbered returns a stored revision of the set newSet(image).
func numbered(t *testing.T, image string, number int64) *appsv1.ControllerRevision {
	t.Helper()
	set := newSet(image)
	data := patchOf(t, set)
	r := New(Owner{Object: set, Kind: setKind}, set.Spec.Template.Labels, data, number, HashLabel, Hash(data, new(int32)))
	return r
}

// keeper returns a keeper of an API server that holds the revisions, with a cache that shows those of cached.
func keeper(cached []*appsv1.ControllerRevision, stored ...runtime.Object) Keeper {
	indexer := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	for _, r := range cached {
		_ = indexer.Add(r)
		stored = append(stored, r)
	}
	return Keeper{Client: fake.NewClientset(stored...), Revisions: appslisters.NewControllerRevisionLister(indexer)}
}

func TestTemplatePatchReplacesTheTemplateAndNothingElse(t *testing.T) {
	set := newSet("a:1")
	replicas := int32(3)
	set.Spec.Replicas = &replicas
	var got map[string]map[string]map[string]any
	if err := json.Unmarshal(patchOf(t, set), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got["spec"]) != 1 || got["spec"]["template"]["$patch"] != "replace" || got["spec"]["template"]["spec"] == nil {
		t.Errorf("patch %v", got)
	}
}

func TestHashAndName(t *testing.T) {
	zero, one := int32(0), int32(1)
	data := []byte(`{"spec":{}}`)
	if Hash(data, &zero) == Hash(data, &one) || Hash(data, nil) == Hash(data, &zero) {
		t.Error("the count of collisions does not change the hash")
	}
	if Hash(data, &zero) != Hash(slices.Clone(data), &zero) {
		t.Error("the hash of the same data differs")
	}
	if got := Name(strings.Repeat("n", 253), "5d4cf"); len(got) != 223+6 || !strings.HasSuffix(got, "n-5d4cf") {
		t.Errorf("name %s", got)
	}
}

func TestSame(t *testing.T) {
	for _, tc := range []struct {
		name, a, b string
		want       bool
	}{
		{"bytes", `{"a":1}`, `{"a":1}`, true},
		{"another order", `{"a":1,"b":[1,2]}`, `{ "b": [1,2], "a": 1 }`, true},
		{"another order of a list", `{"b":[1,2]}`, `{"b":[2,1]}`, false},
		{"large numbers", `{"a":9007199254740993}`, `{"a":9007199254740992}`, false},
		{"null is not nothing", `{"a":null}`, `{}`, false},
		{"not JSON", `{`, `{}`, false},
		{"empty", ``, `{}`, false},
	} {
		if got := Same([]byte(tc.a), []byte(tc.b)); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestSortBreaksTiesByAgeAndName(t *testing.T) {
	at := func(name string, number int64, age time.Duration) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(1000, 0).Add(-age))}, Revision: number}
	}
	all := []*appsv1.ControllerRevision{at("d", 3, 0), at("b", 2, 0), at("c", 2, time.Minute), at("a", 2, 0), at("e", 1, 0)}
	Sort(all)
	if got := namesOf(all); !slices.Equal(got, []string{"e", "c", "a", "b", "d"}) {
		t.Errorf("sorted %v", got)
	}
	if Next(all) != 4 || Next(nil) != 1 {
		t.Errorf("next %d and %d", Next(all), Next(nil))
	}
}

func namesOf(all []*appsv1.ControllerRevision) (out []string) {
	for _, r := range all {
		out = append(out, r.Name)
	}
	return out
}

func TestSurplus(t *testing.T) {
	var all []*appsv1.ControllerRevision
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		all = append(all, &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	for _, tc := range []struct {
		limit int
		used  string
		want  []string
	}{
		{10, "5", nil},
		{4, "5", nil},
		{2, "5", []string{"1", "2"}},
		{2, "15", []string{"2"}},
		{0, "25", []string{"1", "3", "4"}},
		{0, "12345", nil},
		{-1, "5", nil},
	} {
		got := namesOf(Surplus(all, tc.limit, func(r *appsv1.ControllerRevision) bool { return strings.Contains(tc.used, r.Name) }))
		if !slices.Equal(got, tc.want) {
			t.Errorf("limit %d, in use %s: %v, want %v", tc.limit, tc.used, got, tc.want)
		}
	}
	if got := namesOf(all); !slices.Equal(got, []string{"1", "2", "3", "4", "5"}) {
		t.Errorf("the argument became %v", got)
	}
}

func TestEnsure(t *testing.T) {
	a, b, c := numbered(t, "a", 1), numbered(t, "b", 2), numbered(t, "c", 3)
	older := numbered(t, "c", 3)
	// What a release wrote that had null for an empty time and lacked a default of this one.
	older.Data.Raw = []byte(`{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"db"}},"spec":{"containers":[{"image":"c","name":"c"}]}}}}`)
	taken := numbered(t, "d", 1)
	taken.Data.Raw = []byte(`{"spec":{"template":{"other":"data"}}}`)
	for _, tc := range []struct {
		name       string
		cached     []*appsv1.ControllerRevision
		stored     *appsv1.ControllerRevision // what the cache does not show yet
		image      string
		want       string
		number     int64
		collisions int32
		kept       int // revisions afterwards
	}{
		{name: "the first", image: "a", want: a.Name, number: 1, kept: 1},
		{name: "the last one again", cached: []*appsv1.ControllerRevision{a, b}, image: "b", want: b.Name, number: 2, kept: 2},
		{name: "an earlier one again", cached: []*appsv1.ControllerRevision{a, b, c}, image: "a", want: a.Name, number: 4, kept: 3},
		{name: "a new one", cached: []*appsv1.ControllerRevision{a, b}, image: "c", want: c.Name, number: 3, kept: 3},
		{name: "the last one as an earlier release wrote it", cached: []*appsv1.ControllerRevision{a, b, older}, image: "c", want: older.Name, number: 3, kept: 3},
		{name: "made and not seen yet", cached: []*appsv1.ControllerRevision{a}, stored: b, image: "b", want: b.Name, number: 2, kept: 2},
		{name: "the name is taken", cached: []*appsv1.ControllerRevision{a}, stored: taken, image: "d", want: "db-" + Hash(patchOf(t, newSet("d")), new(int32(1))), number: 2, collisions: 1, kept: 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stored []runtime.Object
			if tc.stored != nil {
				stored = append(stored, tc.stored)
			}
			k := keeper(tc.cached, stored...)
			set := newSet(tc.image)
			data := patchOf(t, set)
			got, collisions, err := k.Ensure(t.Context(), tc.cached, data, 0, func(number int64, collisions int32) *appsv1.ControllerRevision {
				return New(Owner{Object: set, Kind: setKind}, set.Spec.Template.Labels, data, number, HashLabel, Hash(data, &collisions))
			})
			if err != nil {
				t.Fatal(err)
			}
			if got.Name != tc.want || got.Revision != tc.number || collisions != tc.collisions {
				t.Errorf("revision %s number %d, %d collisions; want %s number %d, %d collisions", got.Name, got.Revision, collisions, tc.want, tc.number, tc.collisions)
			}
			all, err := k.Client.AppsV1().ControllerRevisions("ns").List(t.Context(), metav1.ListOptions{})
			if err != nil || len(all.Items) != tc.kept {
				t.Errorf("%d revisions are stored, want %d (%v)", len(all.Items), tc.kept, err)
			}
		})
	}
}

func TestNewCarriesTheOwner(t *testing.T) {
	set := newSet("a")
	template := map[string]string{"app": "db"}
	r := New(Owner{Object: set, Kind: setKind}, template, []byte(`{}`), 7, HashLabel, "5d4cf")
	owner := metav1.GetControllerOf(r)
	if owner == nil || owner.UID != "s" || owner.Kind != "StatefulSet" || r.Labels[HashLabel] != "5d4cf" || r.Labels["app"] != "db" || r.Revision != 7 {
		t.Errorf("revision %+v", r)
	}
	if r.Annotations["kubernetes.io/change-cause"] != "to a" {
		t.Errorf("annotations %v, want the change cause for kubectl rollout history", r.Annotations)
	}
	if len(template) != 1 {
		t.Errorf("the template's labels became %v", template)
	}
}

func TestListAdoptsWhatNobodyOwns(t *testing.T) {
	mine, orphan, others := numbered(t, "a", 2), numbered(t, "b", 1), numbered(t, "c", 3)
	orphan.OwnerReferences = nil
	others.OwnerReferences[0].UID = "another"
	k := keeper([]*appsv1.ControllerRevision{mine, orphan, others})
	set := newSet("a")
	got, err := k.List(t.Context(), Owner{Object: set, Kind: setKind, Selector: labels.SelectorFromSet(labels.Set{"app": "db"}),
		Fresh: func(context.Context) (metav1.Object, error) { return set, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if names := namesOf(got); !slices.Equal(names, []string{orphan.Name, mine.Name}) {
		t.Errorf("listed %v, want %s and %s", names, orphan.Name, mine.Name)
	}
	adopted, err := k.Client.AppsV1().ControllerRevisions("ns").Get(t.Context(), orphan.Name, metav1.GetOptions{})
	if owner := metav1.GetControllerOf(adopted); err != nil || owner == nil || owner.UID != set.UID {
		t.Errorf("owner of the orphan %v, %v", owner, err)
	}
}
