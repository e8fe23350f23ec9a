// Package priorityclass serves scheduling.k8s.io/v1 priorityclasses. It knows Kubernetes' two system classes:
// only they may have the reserved names and values.
package priorityclass

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// SystemPrefix is the reserved prefix of the system classes' names, HighestUserValue the highest value of other
// classes, and the two names are those of the system classes.
const (
	SystemPrefix       = "system-"
	HighestUserValue   = int32(1000000000)
	ClusterCritical    = SystemPrefix + "cluster-critical"
	NodeCritical       = SystemPrefix + "node-critical"
	systemValueStart   = 2 * HighestUserValue
	nodeCriticalOffset = 1000
)

// System returns the classes that exist in every cluster.
func System() []*schedulingv1.PriorityClass {
	class := func(name string, value int32, description string) *schedulingv1.PriorityClass {
		c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value, Description: description}
		setDefaults(c)
		return c
	}
	return []*schedulingv1.PriorityClass{
		class(NodeCritical, systemValueStart+nodeCriticalOffset, "Used for system critical pods that must not be moved from their current node."),
		class(ClusterCritical, systemValueStart, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
	}
}

// Kind returns the kind PriorityClass.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*schedulingv1.PriorityClass]{
		GVK:        schedulingv1.SchemeGroupVersion.WithKind("PriorityClass"),
		Resource:   "priorityclasses",
		Singular:   "priorityclass",
		ShortNames: []string{"pc"},
		New:        func() *schedulingv1.PriorityClass { return &schedulingv1.PriorityClass{} },
		NewList:    func() runtime.Object { return &schedulingv1.PriorityClassList{} },

		Default:        setDefaults,
		Prepare:        func(_ context.Context, c *schedulingv1.PriorityClass) { c.Generation = 1 },
		Validate:       check,
		ValidateUpdate: checkUpdate,
		Table:          table(),
	})
}

func setDefaults(c *schedulingv1.PriorityClass) {
	if c.PreemptionPolicy == nil {
		policy := corev1.PreemptLowerPriority
		c.PreemptionPolicy = &policy
	}
}

func check(_ context.Context, c *schedulingv1.PriorityClass) field.ErrorList {
	faults := validate.Meta(&c.ObjectMeta, false, apivalidation.NameIsDNSSubdomain)
	if strings.HasPrefix(c.Name, SystemPrefix) {
		if fault := notSystem(c); fault != "" {
			faults = append(faults, field.Forbidden(field.NewPath("metadata", "name"),
				"priority class names with '"+SystemPrefix+"' prefix are reserved for system use only. error: "+fault))
		}
	} else if c.Value > HighestUserValue {
		faults = append(faults, field.Forbidden(field.NewPath("value"), fmt.Sprintf("maximum allowed value of a user defined priority is %v", HighestUserValue)))
	}
	return append(faults, checkPolicy(c.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}

// notSystem returns how the class differs from the system class of its name, or "" if it does not.
func notSystem(c *schedulingv1.PriorityClass) string {
	for _, system := range System() {
		switch {
		case system.Name != c.Name:
			continue
		case system.Value != c.Value:
			return fmt.Sprintf("value of %v PriorityClass must be %v", system.Name, system.Value)
		case system.GlobalDefault != c.GlobalDefault:
			return fmt.Sprintf("globalDefault of %v PriorityClass must be %v", system.Name, system.GlobalDefault)
		}
		return ""
	}
	return fmt.Sprintf("%v is not a known system priority class", c.Name)
}

func checkPolicy(policy *corev1.PreemptionPolicy, path *field.Path) field.ErrorList {
	if policy == nil {
		return nil
	}
	switch *policy {
	case corev1.PreemptLowerPriority, corev1.PreemptNever:
		return nil
	case "":
		return field.ErrorList{field.Required(path, "")}
	}
	return field.ErrorList{field.NotSupported(path, policy, []corev1.PreemptionPolicy{corev1.PreemptLowerPriority, corev1.PreemptNever})}
}

func checkUpdate(_ context.Context, c, old *schedulingv1.PriorityClass) field.ErrorList {
	faults := validate.MetaUpdate(&c.ObjectMeta, &old.ObjectMeta)
	if c.Value != old.Value {
		faults = append(faults, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
	}
	return append(faults, validate.Immutable(c.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
}

func table() *kit.Table[*schedulingv1.PriorityClass] {
	doc := schedulingv1.PriorityClass{}.SwaggerDoc()
	return &kit.Table[*schedulingv1.PriorityClass]{
		Columns: []column.Definition{
			column.Name(),
			column.Integer("Value", doc["value"]),
			column.Boolean("Global-Default", doc["globalDefault"]),
			column.Age(),
			column.Text("PreemptionPolicy", doc["preemptionPolicy"]),
		},
		Row: func(c *schedulingv1.PriorityClass) ([]any, []metav1.TableRowCondition) {
			policy := ""
			if c.PreemptionPolicy != nil {
				policy = string(*c.PreemptionPolicy)
			}
			return []any{c.Name, int64(c.Value), c.GlobalDefault, column.Since(c.CreationTimestamp), policy}, nil
		},
	}
}
