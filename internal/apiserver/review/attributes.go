package review

import (
	"cmp"
	"fmt"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// attributes turns what a review asks into what an authorizer is asked.
func attributes(s authorizationv1.SubjectAccessReviewSpec) authorizer.AttributesRecord {
	who := &user.DefaultInfo{Name: s.User, Groups: s.Groups, UID: s.UID}
	if s.Extra != nil {
		who.Extra = map[string][]string{}
		for k, v := range s.Extra {
			who.Extra[k] = v
		}
	}
	if n := s.NonResourceAttributes; n != nil {
		return authorizer.AttributesRecord{User: who, Path: n.Path, Verb: n.Verb}
	}
	r := s.ResourceAttributes
	a := authorizer.AttributesRecord{
		User: who, Verb: r.Verb, Namespace: r.Namespace, APIGroup: r.Group, APIVersion: cmp.Or(r.Version, "*"),
		Resource: r.Resource, Subresource: r.Subresource, Name: r.Name, ResourceRequest: true,
	}
	if l := r.LabelSelector; l != nil {
		a.LabelSelectorRequirements, a.LabelSelectorParsingErr = labelRequirements(l)
	}
	if f := r.FieldSelector; f != nil {
		a.FieldSelectorRequirements, a.FieldSelectorParsingErr = fieldRequirements(f)
	}
	return a
}

// labelRequirements leaves out what cannot be understood, and says so: all requirements must hold, so that
// without one the question is a wider one, never a narrower.
func labelRequirements(l *authorizationv1.LabelSelectorAttributes) (labels.Requirements, error) {
	if l.RawSelector != "" {
		parsed, err := labels.Parse(l.RawSelector)
		if err != nil {
			return nil, err
		}
		r, _ := parsed.Requirements()
		return r, nil
	}
	var all labels.Requirements
	var faults []error
	for _, q := range l.Requirements {
		op, ok := map[metav1.LabelSelectorOperator]selection.Operator{
			metav1.LabelSelectorOpIn: selection.In, metav1.LabelSelectorOpNotIn: selection.NotIn,
			metav1.LabelSelectorOpExists: selection.Exists, metav1.LabelSelectorOpDoesNotExist: selection.DoesNotExist,
		}[q.Operator]
		if !ok {
			faults = append(faults, fmt.Errorf("%q is not a valid label selector operator", q.Operator))
			continue
		}
		r, err := labels.NewRequirement(q.Key, op, q.Values)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, *r)
	}
	return all, utilerrors.NewAggregate(faults)
}

func fieldRequirements(f *authorizationv1.FieldSelectorAttributes) (fields.Requirements, error) {
	if f.RawSelector != "" {
		parsed, err := fields.ParseSelector(f.RawSelector)
		if err != nil {
			return nil, err
		}
		return parsed.Requirements(), nil
	}
	var all fields.Requirements
	var faults []error
	for _, q := range f.Requirements {
		r, err := fieldRequirement(q)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, r)
	}
	return all, utilerrors.NewAggregate(faults)
}

func fieldRequirement(q metav1.FieldSelectorRequirement) (fields.Requirement, error) {
	if len(q.Values) > 1 {
		return fields.Requirement{}, fmt.Errorf("fieldSelectors do not yet support multiple values")
	}
	var op selection.Operator
	switch q.Operator {
	case metav1.FieldSelectorOpIn:
		if len(q.Values) != 1 {
			return fields.Requirement{}, fmt.Errorf("fieldSelectors in must have one value")
		}
		op = selection.Equals
	case metav1.FieldSelectorOpNotIn:
		if len(q.Values) != 1 {
			return fields.Requirement{}, fmt.Errorf("fieldSelectors not in must have one value")
		}
		op = selection.NotEquals
	case metav1.FieldSelectorOpExists, metav1.FieldSelectorOpDoesNotExist:
		return fields.Requirement{}, fmt.Errorf("fieldSelectors do not yet support %v", q.Operator)
	default:
		return fields.Requirement{}, fmt.Errorf("%q is not a valid field selector operator", q.Operator)
	}
	return fields.Requirement{Field: q.Key, Operator: op, Value: q.Values[0]}, nil
}

// evaluationError says what could not be understood of a question besides what went wrong in answering.
func evaluationError(err error, a authorizer.AttributesRecord) string {
	var faults []string
	if err != nil {
		faults = append(faults, err.Error())
	}
	note := func(selector string, err error, left int) {
		if err == nil {
			return
		}
		how := "ignored"
		if left > 0 {
			how = "partially ignored"
		}
		faults = append(faults, fmt.Sprintf("spec.resourceAttributes.%s %s due to parse error", selector, how))
	}
	note("fieldSelector", a.FieldSelectorParsingErr, len(a.FieldSelectorRequirements))
	note("labelSelector", a.LabelSelectorParsingErr, len(a.LabelSelectorRequirements))
	return strings.Join(faults, "; ")
}
