package review

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"podium.dev/podium/internal/registry/kit/validate"
)

func (c Config) subjectAccess(ctx context.Context, r *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
	r.Status = c.decide(ctx, attributes(r.Spec))
	return r, nil
}

func (c Config) localSubjectAccess(ctx context.Context, r *authorizationv1.LocalSubjectAccessReview) (*authorizationv1.LocalSubjectAccessReview, error) {
	r.Status = c.decide(ctx, attributes(r.Spec))
	return r, nil
}

func (c Config) selfSubjectAccess(ctx context.Context, r *authorizationv1.SelfSubjectAccessReview) (*authorizationv1.SelfSubjectAccessReview, error) {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	a := attributes(authorizationv1.SubjectAccessReviewSpec{
		ResourceAttributes: r.Spec.ResourceAttributes, NonResourceAttributes: r.Spec.NonResourceAttributes,
	})
	a.User = who
	r.Status = c.decide(ctx, a)
	return r, nil
}

func (c Config) decide(ctx context.Context, a authorizer.AttributesRecord) authorizationv1.SubjectAccessReviewStatus {
	decision, reason, err := c.Authorizer.Authorize(ctx, a)
	return authorizationv1.SubjectAccessReviewStatus{
		Allowed:         decision == authorizer.DecisionAllow,
		Denied:          decision == authorizer.DecisionDeny,
		Reason:          reason,
		EvaluationError: evaluationError(err, a),
	}
}

func (c Config) rules(ctx context.Context, r *authorizationv1.SelfSubjectRulesReview) (*authorizationv1.SelfSubjectRulesReview, error) {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("no user present on request")
	}
	resources, urls, incomplete, err := c.Rules.RulesFor(ctx, who, r.Spec.Namespace)
	answer := &authorizationv1.SelfSubjectRulesReview{Status: authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
		Incomplete:       incomplete,
	}}
	for _, i := range resources {
		answer.Status.ResourceRules = append(answer.Status.ResourceRules, authorizationv1.ResourceRule{
			Verbs: i.GetVerbs(), APIGroups: i.GetAPIGroups(), Resources: i.GetResources(), ResourceNames: i.GetResourceNames(),
		})
	}
	for _, i := range urls {
		answer.Status.NonResourceRules = append(answer.Status.NonResourceRules, authorizationv1.NonResourceRule{
			Verbs: i.GetVerbs(), NonResourceURLs: i.GetNonResourceURLs(),
		})
	}
	if err != nil {
		answer.Status.EvaluationError = err.Error()
	}
	return answer, nil
}

func checkRules(_ context.Context, r *authorizationv1.SelfSubjectRulesReview) error {
	if r.Spec.Namespace == "" {
		return apierrors.NewBadRequest("no namespace on request")
	}
	return nil
}

func checkSubjectAccess(_ context.Context, r *authorizationv1.SubjectAccessReview) error {
	faults := append(checkSpec(r.Spec), checkMeta(r.ObjectMeta, "must be empty")...)
	return invalid(faults)
}

func checkSelfSubjectAccess(_ context.Context, r *authorizationv1.SelfSubjectAccessReview) error {
	faults := checkAttributes(r.Spec.ResourceAttributes, r.Spec.NonResourceAttributes)
	faults = append(faults, checkSelectors(r.Spec.ResourceAttributes)...)
	return invalid(append(faults, checkMeta(r.ObjectMeta, "must be empty")...))
}

func checkLocalSubjectAccess(ctx context.Context, r *authorizationv1.LocalSubjectAccessReview) error {
	meta := r.ObjectMeta
	meta.Namespace = ""
	faults := append(checkSpec(r.Spec), checkMeta(meta, "must be empty except for namespace")...)
	if a := r.Spec.ResourceAttributes; a != nil && a.Namespace != r.Namespace {
		faults = append(faults, field.Invalid(field.NewPath("spec.resourceAttributes.namespace"), a.Namespace, "must match metadata.namespace"))
	}
	if r.Spec.NonResourceAttributes != nil {
		faults = append(faults, field.Invalid(field.NewPath("spec.nonResourceAttributes"), r.Spec.NonResourceAttributes, "disallowed on this kind of request"))
	}
	if err := invalid(faults); err != nil {
		return err
	}
	if namespace := request.NamespaceValue(ctx); namespace != r.Namespace {
		return apierrors.NewBadRequest(fmt.Sprintf("spec.resourceAttributes.namespace must match namespace: %v", namespace))
	}
	return nil
}

// invalid names no kind: neither does Kubernetes here.
func invalid(faults field.ErrorList) error {
	if len(faults) == 0 {
		return nil
	}
	return apierrors.NewInvalid(schema.GroupKind{Group: authorizationv1.GroupName}, "", faults)
}

func checkMeta(m metav1.ObjectMeta, words string) field.ErrorList {
	m.ManagedFields = nil
	if equality.Semantic.DeepEqual(m, metav1.ObjectMeta{}) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("metadata"), m, words)}
}

func checkSpec(s authorizationv1.SubjectAccessReviewSpec) field.ErrorList {
	faults := checkAttributes(s.ResourceAttributes, s.NonResourceAttributes)
	if s.User == "" && len(s.Groups) == 0 {
		faults = append(faults, field.Invalid(field.NewPath("spec").Child("user"), s.User, "at least one of user or group must be specified"))
	}
	return append(faults, checkSelectors(s.ResourceAttributes)...)
}

func checkAttributes(r *authorizationv1.ResourceAttributes, n *authorizationv1.NonResourceAttributes) field.ErrorList {
	if (r == nil) != (n == nil) {
		return nil
	}
	return field.ErrorList{field.Invalid(field.NewPath("spec"), validate.Shown(n), "exactly one of nonResourceAttributes or resourceAttributes must be specified")}
}

func checkSelectors(r *authorizationv1.ResourceAttributes) (faults field.ErrorList) {
	if r == nil {
		return nil
	}
	path := field.NewPath("spec.resourceAttributes")
	if s := r.FieldSelector; s != nil {
		at := path.Child("fieldSelector")
		faults = append(faults, checkSelector(at, s.RawSelector, len(s.Requirements))...)
		for i, q := range s.Requirements {
			faults = append(faults, metav1validation.ValidateFieldSelectorRequirement(q,
				metav1validation.FieldSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	if s := r.LabelSelector; s != nil {
		at := path.Child("labelSelector")
		faults = append(faults, checkSelector(at, s.RawSelector, len(s.Requirements))...)
		for i, q := range s.Requirements {
			faults = append(faults, metav1validation.ValidateLabelSelectorRequirement(q,
				metav1validation.LabelSelectorValidationOptions{AllowUnknownOperatorInRequirement: true}, at.Child("requirements").Index(i))...)
		}
	}
	return faults
}

func checkSelector(at *field.Path, raw string, requirements int) field.ErrorList {
	switch {
	case raw != "" && requirements > 0:
		return field.ErrorList{field.Invalid(at.Child("rawSelector"), raw, "may not specified at the same time as requirements")}
	case raw == "" && requirements == 0:
		return field.ErrorList{field.Required(at.Child("requirements"), fmt.Sprintf("when %s is specified, requirements or rawSelector is required", at))}
	}
	return nil
}
