// Package certificatesigningrequest serves certificates.k8s.io/v1 certificatesigningrequests. A request is
// created, then approved or denied through /approval, and then gets its certificate through /status, each by a
// different client.
package certificatesigningrequest

import (
	"context"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
)

// Kind returns the kind CertificateSigningRequest.
func Kind() kit.Kind {
	d := kit.Definition[*certificatesv1.CertificateSigningRequest]{
		GVK:        certificatesv1.SchemeGroupVersion.WithKind("CertificateSigningRequest"),
		Resource:   "certificatesigningrequests",
		Singular:   "certificatesigningrequest",
		ShortNames: []string{"csr"},
		New:        func() *certificatesv1.CertificateSigningRequest { return &certificatesv1.CertificateSigningRequest{} },
		NewList:    func() runtime.Object { return &certificatesv1.CertificateSigningRequestList{} },

		Prepare:  prepare,
		Validate: check,
		PrepareUpdate: func(_ context.Context, r, old *certificatesv1.CertificateSigningRequest) {
			r.Spec, r.Status = old.Spec, old.Status
		},
		ValidateUpdate: rules{}.checkUpdate,
		ResetFields:    [][]string{{"spec"}, {"status"}},
		Status: &kit.SubresourceRules[*certificatesv1.CertificateSigningRequest]{
			PrepareUpdate: func(_ context.Context, r, old *certificatesv1.CertificateSigningRequest) {
				r.Spec = old.Spec
				keepDecision(&r.Status, &old.Status)
				date(&r.Status, &old.Status)
			},
			ValidateUpdate: rules{issue: true}.checkUpdate,
			ResetFields:    [][]string{{"spec"}, {"status", "conditions"}},
		},
		Selectable: func(r *certificatesv1.CertificateSigningRequest) fields.Set {
			return fields.Set{"spec.signerName": r.Spec.SignerName}
		},
		Table: table(),
	}
	d.Connect = func(env kit.Env) (map[string]rest.Storage, error) {
		return map[string]rest.Storage{"approval": kit.NewSubresource(env, nil, d, kit.SubresourceRules[*certificatesv1.CertificateSigningRequest]{
			PrepareUpdate: func(_ context.Context, r, old *certificatesv1.CertificateSigningRequest) {
				date(&r.Status, &old.Status)
				conditions := r.Status.Conditions
				r.Spec, r.Status = old.Spec, old.Status
				r.Status.Conditions = conditions
			},
			ValidateUpdate: rules{decide: true}.checkUpdate,
			ResetFields:    [][]string{{"spec"}, {"status", "certificate"}},
		})}, nil
	}
	return kit.Define(d)
}

// prepare writes the requesting user into the request, because the client may not choose it.
func prepare(ctx context.Context, r *certificatesv1.CertificateSigningRequest) {
	s := &r.Spec
	s.Username, s.UID, s.Groups, s.Extra = "", "", nil, nil
	if user, ok := request.UserFrom(ctx); ok {
		s.Username, s.UID, s.Groups = user.GetName(), user.GetUID(), user.GetGroups()
		for key, value := range user.GetExtra() {
			if s.Extra == nil {
				s.Extra = map[string]certificatesv1.ExtraValue{}
			}
			s.Extra[key] = value
		}
	}
	r.Status = certificatesv1.CertificateSigningRequestStatus{}
}

// keepDecision keeps the Approved and Denied conditions of the old status if their number is unchanged.
func keepDecision(now, old *certificatesv1.CertificateSigningRequestStatus) {
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		before, here := find(old, t), find(now, t)
		if len(before) != len(here) {
			continue
		}
		for i := range here {
			*here[i] = *before[i]
		}
	}
}

// find returns the conditions of a type.
func find(s *certificatesv1.CertificateSigningRequestStatus, t certificatesv1.RequestConditionType) (list []*certificatesv1.CertificateSigningRequestCondition) {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			list = append(list, &s.Conditions[i])
		}
	}
	return list
}

// date sets the times that the client left out.
func date(now, old *certificatesv1.CertificateSigningRequestStatus) {
	moment := metav1.Now()
	for i := range now.Conditions {
		c := &now.Conditions[i]
		if c.LastUpdateTime.IsZero() {
			c.LastUpdateTime = moment
		}
		if !c.LastTransitionTime.IsZero() {
			continue
		}
		c.LastTransitionTime = moment
		for _, before := range find(old, c.Type) {
			if before.Status == c.Status && !before.LastTransitionTime.IsZero() {
				c.LastTransitionTime = before.LastTransitionTime
				break
			}
		}
	}
}

func table() *kit.Table[*certificatesv1.CertificateSigningRequest] {
	doc := certificatesv1beta1.CertificateSigningRequestSpec{}.SwaggerDoc()
	return &kit.Table[*certificatesv1.CertificateSigningRequest]{
		Columns: []column.Definition{
			column.Name(),
			column.Age(),
			column.Text("SignerName", doc["signerName"]),
			column.Text("Requestor", doc["request"]),
			column.Text("RequestedDuration", doc["expirationSeconds"]),
			column.Text("Condition", certificatesv1beta1.CertificateSigningRequestStatus{}.SwaggerDoc()["conditions"]),
		},
		Row: func(r *certificatesv1.CertificateSigningRequest) ([]any, []metav1.TableRowCondition) {
			life := column.None
			if n := r.Spec.ExpirationSeconds; n != nil {
				life = duration.HumanDuration(time.Duration(*n) * time.Second)
			}
			return []any{r.Name, column.Since(r.CreationTimestamp), column.OrNone(r.Spec.SignerName), r.Spec.Username, life, state(&r.Status)}, nil
		},
	}
}

func state(s *certificatesv1.CertificateSigningRequestStatus) string {
	state := "Pending"
	switch {
	case len(find(s, certificatesv1.CertificateDenied)) > 0:
		state = "Denied"
	case len(find(s, certificatesv1.CertificateApproved)) > 0:
		state = "Approved"
	}
	if len(find(s, certificatesv1.CertificateFailed)) > 0 {
		state += ",Failed"
	}
	if len(s.Certificate) > 0 {
		state += ",Issued"
	}
	return state
}
