package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/component-base/metrics/legacyregistry"
	podsecurity "k8s.io/pod-security-admission/admission"
	"k8s.io/pod-security-admission/admission/api/load"
	podsecurityapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/metrics"
	"k8s.io/pod-security-admission/policy"

	"podium.dev/podium/internal/apistore"
)

// podSecurity holds Pods to the Pod Security Standard that their namespace's labels name.
type podSecurity struct {
	*admission.Handler
	delegate *podsecurity.Admission
}

var _ admission.ValidationInterface = &podSecurity{}

// recorder counts decisions; it can be registered only once a process.
var recorder = sync.OnceValue(func() *metrics.PrometheusRecorder {
	r := metrics.NewPrometheusRecorder(podsecurityapi.GetAPIVersion())
	r.MustRegister(legacyregistry.MustRegister)
	return r
})

func newPodSecurity(stores apistore.Stores) (*podSecurity, error) {
	config, err := load.LoadFromData(nil) // the defaults: privileged, latest
	if err != nil {
		return nil, fmt.Errorf("make the Pod Security configuration: %w", err)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the Pod Security checks: %w", err)
	}
	p := &podSecurity{
		Handler: admission.NewHandler(admission.Create, admission.Update),
		delegate: &podsecurity.Admission{
			Configuration:    config,
			Evaluator:        evaluator,
			Metrics:          recorder(),
			PodSpecExtractor: podsecurity.DefaultPodSpecExtractor{},
			NamespaceGetter:  namespaces(stores),
			PodLister:        podLister(stores),
		},
	}
	if err := errors.Join(p.delegate.CompleteConfiguration(), p.delegate.ValidateConfiguration()); err != nil {
		return nil, fmt.Errorf("make the Pod Security admission: %w", err)
	}
	return p, nil
}

type namespaces apistore.Stores

func (n namespaces) GetNamespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	return find[*corev1.Namespace](ctx, apistore.Stores(n), apistore.Core("namespaces"), "", name)
}

type podLister apistore.Stores

func (l podLister) ListPods(ctx context.Context, namespace string) ([]*corev1.Pod, error) {
	return apistore.List[*corev1.Pod](ctx, apistore.Stores(l), podsResource, namespace)
}

// Validate implements admission.ValidationInterface.
func (p *podSecurity) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	r := a.GetResource().GroupResource()
	if r != podsResource && r != apistore.Core("namespaces") && !p.delegate.PodSpecExtractor.HasPodSpec(r) {
		return nil
	}
	result := p.delegate.Validate(ctx, securityAttributes{a})
	for _, w := range result.Warnings {
		warning.AddWarning(ctx, "", w)
	}
	for k, v := range result.AuditAnnotations {
		audit.AddAuditAnnotation(ctx, podsecurityapi.AuditAnnotationPrefix+k, v)
	}
	if result.Allowed {
		return nil
	}
	err := admission.NewForbidden(a, errors.New("Not allowed by PodSecurity"))
	status := (*apierrors.StatusError)(nil)
	if why := result.Result; why != nil && errors.As(err, &status) {
		if why.Message != "" {
			status.ErrStatus.Message = why.Message
		}
		if why.Reason != "" {
			status.ErrStatus.Reason = why.Reason
		}
		if why.Details != nil {
			status.ErrStatus.Details = why.Details
		}
		if why.Code != 0 {
			status.ErrStatus.Code = why.Code
		}
	}
	return err
}

// securityAttributes are attributes as the library wants them.
type securityAttributes struct{ admission.Attributes }

func (s securityAttributes) GetObject() (runtime.Object, error) { return s.Attributes.GetObject(), nil }

func (s securityAttributes) GetOldObject() (runtime.Object, error) {
	return s.Attributes.GetOldObject(), nil
}

func (s securityAttributes) GetOperation() admissionv1.Operation {
	return admissionv1.Operation(s.Attributes.GetOperation())
}

func (s securityAttributes) GetUserName() string { return s.GetUserInfo().GetName() }
