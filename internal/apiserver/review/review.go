// Package review serves the kinds that are questions: who a token is of, who I am, what somebody may do.
// Nothing of them is stored; creating one answers it.
package review

import (
	"context"
	"fmt"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
)

// Config is who knows the answers.
type Config struct {
	// Authenticator knows whose a token is, and Audiences whom tokens are for when nobody says.
	Authenticator authenticator.Request
	Audiences     authenticator.Audiences
	Authorizer    authorizer.UnconditionalAuthorizer
	Rules         authorizer.RuleResolver
}

// Groups returns the API groups of the reviews.
func Groups() []kit.Group {
	return []kit.Group{
		{
			Name: authenticationv1.GroupName, Priority: 17700,
			Versions: []kit.Version{{GroupVersion: authenticationv1.SchemeGroupVersion, AddToScheme: authenticationv1.AddToScheme}},
		},
		{
			Name: authorizationv1.GroupName, Priority: 17600,
			Versions: []kit.Version{{GroupVersion: authorizationv1.SchemeGroupVersion, AddToScheme: authorizationv1.AddToScheme}},
		},
	}
}

// Storage returns the stores of all reviews, by group version and path.
func Storage(c Config) map[schema.GroupVersion]map[string]rest.Storage {
	return map[schema.GroupVersion]map[string]rest.Storage{
		authenticationv1.SchemeGroupVersion: {
			"tokenreviews": &question[*authenticationv1.TokenReview]{
				singular: "tokenreview", new: func() *authenticationv1.TokenReview { return &authenticationv1.TokenReview{} },
				check: checkToken, answer: c.token,
			},
			"selfsubjectreviews": &question[*authenticationv1.SelfSubjectReview]{
				singular: "selfsubjectreview", new: func() *authenticationv1.SelfSubjectReview { return &authenticationv1.SelfSubjectReview{} },
				answer: self,
			},
		},
		authorizationv1.SchemeGroupVersion: {
			"subjectaccessreviews": &question[*authorizationv1.SubjectAccessReview]{
				singular: "subjectaccessreview", new: func() *authorizationv1.SubjectAccessReview { return &authorizationv1.SubjectAccessReview{} },
				check: checkSubjectAccess, answer: c.subjectAccess,
			},
			"selfsubjectaccessreviews": &question[*authorizationv1.SelfSubjectAccessReview]{
				singular: "selfsubjectaccessreview", new: func() *authorizationv1.SelfSubjectAccessReview { return &authorizationv1.SelfSubjectAccessReview{} },
				check: checkSelfSubjectAccess, answer: c.selfSubjectAccess,
			},
			"localsubjectaccessreviews": &question[*authorizationv1.LocalSubjectAccessReview]{
				singular: "localsubjectaccessreview", new: func() *authorizationv1.LocalSubjectAccessReview { return &authorizationv1.LocalSubjectAccessReview{} },
				namespaced: true, check: checkLocalSubjectAccess, answer: c.localSubjectAccess,
			},
			"selfsubjectrulesreviews": &question[*authorizationv1.SelfSubjectRulesReview]{
				singular: "selfsubjectrulesreview", new: func() *authorizationv1.SelfSubjectRulesReview { return &authorizationv1.SelfSubjectRulesReview{} },
				check: checkRules, answer: c.rules,
			},
		},
	}
}

// question is the store of a review: check refuses what is not well asked, and answer answers.
type question[T runtime.Object] struct {
	singular   string
	namespaced bool
	new        func() T
	check      func(context.Context, T) error
	answer     func(context.Context, T) (T, error)
}

var (
	_ rest.Creater              = &question[*authenticationv1.TokenReview]{}
	_ rest.Scoper               = &question[*authenticationv1.TokenReview]{}
	_ rest.SingularNameProvider = &question[*authenticationv1.TokenReview]{}
)

// New implements rest.Storage.
func (q *question[T]) New() runtime.Object { return q.new() }

// Destroy implements rest.Storage.
func (q *question[T]) Destroy() {}

// NamespaceScoped implements rest.Scoper.
func (q *question[T]) NamespaceScoped() bool { return q.namespaced }

// GetSingularName implements rest.SingularNameProvider.
func (q *question[T]) GetSingularName() string { return q.singular }

// Create implements rest.Creater.
func (q *question[T]) Create(ctx context.Context, obj runtime.Object, admit rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	asked, ok := obj.(T)
	if !ok {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("not a %s: %T", q.singular, obj))
	}
	if q.check != nil {
		if err := q.check(ctx, asked); err != nil {
			return nil, err
		}
	}
	if admit != nil {
		if err := admit(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	return q.answer(ctx, asked)
}

// bearer makes a request that has nothing but a token.
func bearer(ctx context.Context, token string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	r.Header.Set("Authorization", "Bearer "+token)
	return r.WithContext(ctx)
}
