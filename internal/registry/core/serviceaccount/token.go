package serviceaccount

import (
	"context"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"

	"podium.dev/podium/internal/registry/kit"
)

// defaultLifeSeconds is the lifetime of a token if the request does not specify it. The others are the bounds.
const (
	defaultLifeSeconds = int64(60 * 60)
	minLifeSeconds     = int64(10 * 60)
	maxLifeSeconds     = int64(1 << 32)
)

var tokenRequest = authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")

// tokenREST serves serviceaccounts/token: it answers a TokenRequest with a signed token.
type tokenREST struct {
	env kit.Env
}

var (
	_ rest.NamedCreater                   = &tokenREST{}
	_ rest.GroupVersionKindProvider       = &tokenREST{}
	_ rest.SubresourceObjectMetaPreserver = &tokenREST{}
)

// New implements rest.Storage.
func (r *tokenREST) New() runtime.Object { return &authenticationv1.TokenRequest{} }

// Destroy implements rest.Storage.
func (r *tokenREST) Destroy() {}

// GroupVersionKind implements rest.GroupVersionKindProvider. A TokenRequest is not in the core group.
func (r *tokenREST) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return tokenRequest
}

// PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate implements rest.SubresourceObjectMetaPreserver. The
// UID in the request identifies the service account.
func (r *tokenREST) PreserveRequestObjectMetaSystemFieldsOnSubresourceCreate() bool { return true }

// Create implements rest.NamedCreater for the service account of that name.
func (r *tokenREST) Create(ctx context.Context, name string, obj runtime.Object, admit rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	req, ok := obj.(*authenticationv1.TokenRequest)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a TokenRequest: %T", obj))
	}
	namespace, ok := genericapirequest.NamespaceFrom(ctx)
	if !ok {
		return nil, apierrors.NewBadRequest("namespace is required")
	}
	if faults := matchesURL(req, namespace, name); len(faults) > 0 {
		return nil, apierrors.NewInvalid(tokenRequest.GroupKind(), name, faults)
	}
	stored, err := r.env.Store.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	sa := stored.(*corev1.ServiceAccount)
	if req.UID != "" && req.UID != sa.UID {
		return nil, conflict(tokenRequest.Kind, name, fmt.Errorf("the UID in the token request (%s) does not match the UID of the service account (%s)", req.UID, sa.UID))
	}
	complete(req, sa, r.env.Tokens.Audiences(), time.Now())
	if faults := checkTokenRequest(req); len(faults) > 0 {
		return nil, apierrors.NewInvalid(tokenRequest.GroupKind(), "", faults)
	}
	shorten(ctx, req, r.env.Tokens.MaxLife())
	if admit != nil {
		if err := admit(ctx, req.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	bound, err := r.bind(ctx, name, namespace, req.Spec.BoundObjectRef)
	if err != nil {
		return nil, err
	}
	life := time.Duration(*req.Spec.ExpirationSeconds) * time.Second
	token, expires, err := r.env.Tokens.Issue(ctx, sa, bound, req.Spec.Audiences, life)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("failed to generate token: %w", err))
	}
	out := req.DeepCopy()
	out.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	return out, nil
}

func conflict(resource, name string, err error) error {
	return apierrors.NewConflict(schema.GroupResource{Group: tokenRequest.Group, Resource: resource}, name, err)
}

// matchesURL requires that the metadata in the request match the URL.
func matchesURL(req *authenticationv1.TokenRequest, namespace, name string) field.ErrorList {
	if req.Name != "" && req.Name != name {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), req.Name, "must match the service account name if specified")}
	}
	if req.Namespace != "" && req.Namespace != namespace {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "namespace"), req.Namespace, "must match the service account namespace if specified")}
	}
	return nil
}

// complete sets what the request leaves to the server and clears what only the server may set.
func complete(req *authenticationv1.TokenRequest, sa *corev1.ServiceAccount, audiences []string, now time.Time) {
	req.Name, req.Namespace, req.UID = sa.Name, sa.Namespace, sa.UID
	req.CreationTimestamp = metav1.NewTime(now)
	req.Status = authenticationv1.TokenRequestStatus{}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = audiences
	}
	if req.Spec.ExpirationSeconds == nil {
		life := defaultLifeSeconds
		req.Spec.ExpirationSeconds = &life
	}
}

// shorten cuts the life that a request asks for to the longest that is granted, and warns of it in upstream's words.
func shorten(ctx context.Context, req *authenticationv1.TokenRequest, longest time.Duration) {
	asked, most := *req.Spec.ExpirationSeconds, int64(longest/time.Second)
	if asked <= most {
		return
	}
	warning.AddWarning(ctx, "", fmt.Sprintf("requested expiration of %d seconds shortened to %d seconds", asked, most))
	req.Spec.ExpirationSeconds = &most
}

func checkTokenRequest(req *authenticationv1.TokenRequest) (faults field.ErrorList) {
	path := field.NewPath("spec")
	life := *req.Spec.ExpirationSeconds
	if life < minLifeSeconds {
		faults = append(faults, field.Invalid(path.Child("expirationSeconds"), life, "may not specify a duration less than 10 minutes"))
	}
	if life > maxLifeSeconds {
		faults = append(faults, field.Invalid(path.Child("expirationSeconds"), life, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(req.Spec.Attestations) != 0 && !webhook(req.Spec.BoundObjectRef) {
		return field.ErrorList{field.Invalid(path.Child("attestations"), req.Spec.Attestations, "attestations may only be specified with a webhook bound object reference")}
	}
	return faults
}

// webhook reports whether a token is to be bound to the configuration of an admission webhook.
func webhook(ref *authenticationv1.BoundObjectReference) bool {
	if ref == nil || ref.APIVersion != admissionregistrationv1.SchemeGroupVersion.String() {
		return false
	}
	return ref.Kind == "ValidatingWebhookConfiguration" || ref.Kind == "MutatingWebhookConfiguration"
}
