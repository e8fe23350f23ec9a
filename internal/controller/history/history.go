// Package history keeps the earlier templates of StatefulSets and DaemonSets as ControllerRevisions: numbered, named by
// the hash of their data, owned by the object whose history they are, and no more of them than the object wants.
package history

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"

	"podium.dev/podium/internal/controller/podcontrol"
	"podium.dev/podium/internal/registry/podspec"
)

// HashLabel is the label of a StatefulSet's revision that holds the hash of its data.
const HashLabel = "controller.kubernetes.io/hash"

// longestPrefix is how much of the owner's name a revision's name keeps, so that the hash and a dash fit in 253 characters
// with room to spare, as Kubernetes names them.
const longestPrefix = 223

// Owner is the object whose history is kept.
type Owner struct {
	metav1.Object
	Kind     schema.GroupVersionKind
	Selector labels.Selector
	// Fresh reads the object from the API server, see podcontrol.Keeper.
	Fresh func(ctx context.Context) (metav1.Object, error)
}

// Keeper reads and writes revisions.
type Keeper struct {
	Client    kubernetes.Interface
	Revisions appslisters.ControllerRevisionLister
}

// List returns the owner's revisions, the oldest first, after it has adopted those that nobody owns.
func (k Keeper) List(ctx context.Context, o Owner) ([]*appsv1.ControllerRevision, error) {
	all, err := k.Revisions.ControllerRevisions(o.GetNamespace()).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("list the controller revisions of namespace %s: %w", o.GetNamespace(), err)
	}
	keeper := podcontrol.Keeper[*appsv1.ControllerRevision]{
		Owner: o.Object, Kind: o.Kind, Fresh: o.Fresh,
		Patch: func(ctx context.Context, r *appsv1.ControllerRevision, how types.PatchType, body []byte) error {
			_, err := k.Client.AppsV1().ControllerRevisions(r.Namespace).Patch(ctx, r.Name, how, body, metav1.PatchOptions{})
			return err
		},
	}
	mine, err := keeper.Keep(ctx, podcontrol.Claim(o.Object, o.Selector, all, func(*appsv1.ControllerRevision) bool { return true }))
	if err != nil {
		return nil, err
	}
	Sort(mine)
	return mine, nil
}

// Sort sorts revisions by number; those of one number by age and name.
func Sort(revisions []*appsv1.ControllerRevision) {
	slices.SortStableFunc(revisions, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
}

// Next returns the number after that of the last of the sorted revisions.
func Next(sorted []*appsv1.ControllerRevision) int64 {
	if len(sorted) == 0 {
		return 1
	}
	return sorted[len(sorted)-1].Revision + 1
}

// TemplatePatch returns a strategic merge patch that gives an object the Pod template that this object has. It is the
// data of a revision.
func TemplatePatch(object any) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("encode the template: %w", err)
	}
	var parsed struct {
		Spec struct {
			Template map[string]any `json:"template"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, fmt.Errorf("read the template: %w", err)
	}
	if parsed.Spec.Template == nil {
		parsed.Spec.Template = map[string]any{}
	}
	parsed.Spec.Template["$patch"] = "replace"
	return json.Marshal(parsed)
}

// Hash returns the hash of a revision's data. The count of collisions, when there is one, changes it.
func Hash(data []byte, collisions *int32) string {
	h := fnv.New32()
	h.Write(data)
	if collisions != nil {
		h.Write([]byte(strconv.FormatInt(int64(*collisions), 10)))
	}
	return rand.SafeEncodeString(fmt.Sprint(h.Sum32()))
}

// Name returns the name of a revision.
func Name(owner, hash string) string {
	return owner[:min(len(owner), longestPrefix)] + "-" + hash
}

// New returns a revision of the owner that is not stored yet. The hash is stored under label.
func New(o Owner, template map[string]string, data []byte, number int64, label, hash string) *appsv1.ControllerRevision {
	marked := maps.Clone(template)
	if marked == nil {
		marked = map[string]string{}
	}
	marked[label] = hash
	return &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Name: Name(o.GetName(), hash), Namespace: o.GetNamespace(), Labels: marked, Annotations: maps.Clone(o.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(o.Object, o.Kind)},
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: number,
	}
}

// Same reports whether two revisions hold the same data. Data is compared as JSON values, so that another order of keys
// makes no difference.
func Same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	left, errLeft := decode(a)
	right, errRight := decode(b)
	return errLeft == nil && errRight == nil && reflect.DeepEqual(left, right)
}

// decode reads JSON without loss: as floating-point numbers large integers would be rounded, and differ no more.
func decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var out any
	err := d.Decode(&out)
	return out, err
}

// restores reports whether going back to the stored data gives a template whose data is wanted. Data that an earlier
// release wrote may lack defaults of this one, or hold null where this one writes nothing: without this comparison every
// set would be rolled out again after an upgrade.
func restores(stored, wanted []byte) bool {
	var object struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if json.Unmarshal(stored, &object) != nil {
		return false
	}
	podspec.DefaultTemplate(&object.Spec.Template)
	data, err := TemplatePatch(object)
	return err == nil && Same(data, wanted)
}

// Ensure returns the stored revision with the data: the newest one that has it, given the last number again when others
// came after it, or the last one when its data means the same (see restores), or a new one. When the name of a new one is taken by other data, collisions is raised until a name is
// free; the new count is returned.
func (k Keeper) Ensure(ctx context.Context, sorted []*appsv1.ControllerRevision, data []byte, collisions int32,
	build func(number int64, collisions int32) *appsv1.ControllerRevision) (*appsv1.ControllerRevision, int32, error) {
	next := Next(sorted)
	for i := len(sorted) - 1; i >= 0; i-- {
		if !Same(sorted[i].Data.Raw, data) {
			continue
		}
		if i == len(sorted)-1 {
			return sorted[i], collisions, nil
		}
		r, err := k.renumber(ctx, sorted[i], next)
		return r, collisions, err
	}
	if last := len(sorted) - 1; last >= 0 && restores(sorted[last].Data.Raw, data) {
		return sorted[last], collisions, nil
	}
	for {
		r := build(next, collisions)
		made, err := k.Client.AppsV1().ControllerRevisions(r.Namespace).Create(ctx, r, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			if err != nil {
				return nil, collisions, fmt.Errorf("create controller revision %s/%s: %w", r.Namespace, r.Name, err)
			}
			return made, collisions, nil
		}
		have, err := k.Client.AppsV1().ControllerRevisions(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
		if err != nil {
			return nil, collisions, fmt.Errorf("read controller revision %s/%s, whose name is taken: %w", r.Namespace, r.Name, err)
		}
		if Same(have.Data.Raw, data) {
			return have, collisions, nil
		}
		collisions++
	}
}

func (k Keeper) renumber(ctx context.Context, r *appsv1.ControllerRevision, number int64) (*appsv1.ControllerRevision, error) {
	copied := r.DeepCopy()
	copied.Revision = number
	updated, err := k.Client.AppsV1().ControllerRevisions(r.Namespace).Update(ctx, copied, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("raise the number of controller revision %s/%s: %w", r.Namespace, r.Name, err)
	}
	return updated, nil
}

// Surplus returns the oldest of the sorted revisions that are in nobody's use, beyond the limit. With a negative limit,
// which validation allows for StatefulSets, every revision is kept.
func Surplus(sorted []*appsv1.ControllerRevision, limit int, used func(*appsv1.ControllerRevision) bool) []*appsv1.ControllerRevision {
	if limit < 0 {
		return nil
	}
	unused := slices.DeleteFunc(slices.Clone(sorted), used)
	return unused[:max(0, len(unused)-limit)]
}

// Remove deletes revisions.
func (k Keeper) Remove(ctx context.Context, revisions []*appsv1.ControllerRevision) error {
	for _, r := range revisions {
		err := k.Client.AppsV1().ControllerRevisions(r.Namespace).Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete controller revision %s/%s: %w", r.Namespace, r.Name, err)
		}
	}
	return nil
}
