// Package clustertrustbundle serves certificates.k8s.io/v1 clustertrustbundles: certificates of authorities
// that Pods may trust, selected by name or by signer.
package clustertrustbundle

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit"
	"podium.dev/podium/internal/registry/kit/column"
	"podium.dev/podium/internal/registry/kit/validate"
)

// maxBundle is the maximum size of the certificates in bytes.
const maxBundle = 1 << 20

// Kind returns the kind ClusterTrustBundle.
func Kind() kit.Kind {
	return kit.Define(kit.Definition[*certificatesv1.ClusterTrustBundle]{
		GVK:      certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"),
		Resource: "clustertrustbundles",
		Singular: "clustertrustbundle",
		New:      func() *certificatesv1.ClusterTrustBundle { return &certificatesv1.ClusterTrustBundle{} },
		NewList:  func() runtime.Object { return &certificatesv1.ClusterTrustBundleList{} },

		Validate: func(_ context.Context, b *certificatesv1.ClusterTrustBundle) field.ErrorList { return check(b, true) },
		ValidateUpdate: func(_ context.Context, b, old *certificatesv1.ClusterTrustBundle) field.ErrorList {
			return validate.InOrder(
				// Certificates that were accepted before are not validated again.
				check(b, b.Spec.TrustBundle != old.Spec.TrustBundle),
				validate.MetaUpdate(&b.ObjectMeta, &old.ObjectMeta),
				validate.Immutable(b.Spec.SignerName, old.Spec.SignerName, field.NewPath("spec", "signerName")),
			)
		},
		Selectable: func(b *certificatesv1.ClusterTrustBundle) fields.Set {
			return fields.Set{"spec.signerName": b.Spec.SignerName}
		},
		DenyUnconditionalUpdate: true,
		Table: &kit.Table[*certificatesv1.ClusterTrustBundle]{
			Columns: []column.Definition{
				column.Name(),
				column.Text("SignerName", certificatesv1.ClusterTrustBundleSpec{}.SwaggerDoc()["signerName"]),
			},
			Row: func(b *certificatesv1.ClusterTrustBundle) ([]any, []metav1.TableRowCondition) {
				signer := b.Spec.SignerName
				if signer == "" {
					signer = column.None
				}
				return []any{b.Name, signer}, nil
			},
		},
	})
}

func check(b *certificatesv1.ClusterTrustBundle, certificates bool) field.ErrorList {
	spec := field.NewPath("spec")
	faults := validate.Meta(&b.ObjectMeta, false, nameFor(b.Spec.SignerName))
	if b.Spec.SignerName != "" {
		faults = append(faults, validate.SignerName(b.Spec.SignerName, spec.Child("signerName"))...)
	}
	if certificates {
		faults = append(faults, checkCertificates(b.Spec.TrustBundle, spec.Child("trustBundle"))...)
	}
	return faults
}

// nameFor returns the name rule for the bundles of a signer, SIGNER-DOMAIN:SIGNER-PATH:NAME, or for bundles
// without a signer.
func nameFor(signer string) apivalidation.ValidateNameFunc {
	return func(name string, prefix bool) []string {
		if signer == "" {
			if strings.Contains(name, ":") {
				return []string{"ClusterTrustBundle without signer name must not have \":\" in its name"}
			}
			return apivalidation.NameIsDNSSubdomain(name, prefix)
		}
		head := strings.ReplaceAll(signer, "/", ":") + ":"
		rest, ok := strings.CutPrefix(name, head)
		if !ok {
			return []string{fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, head)}
		}
		return apivalidation.NameIsDNSSubdomain(rest, prefix)
	}
}

// checkCertificates requires PEM blocks, each the certificate of a different authority.
func checkCertificates(bundle string, path *field.Path) (faults field.ErrorList) {
	if len(bundle) > maxBundle {
		return field.ErrorList{field.TooLong(path, "", maxBundle)}
	}
	refuse := func(format string, args ...any) {
		faults = append(faults, field.Invalid(path, "<value omitted>", fmt.Sprintf(format, args...)))
	}
	seen := map[string][]int{}
	var order []string
	block, rest := pem.Decode([]byte(bundle))
	for i := 0; block != nil; i++ {
		if fault := faultOf(block); fault != "" {
			refuse("entry %d %s", i, fault)
		} else {
			if seen[string(block.Bytes)] == nil {
				order = append(order, string(block.Bytes))
			}
			seen[string(block.Bytes)] = append(seen[string(block.Bytes)], i)
		}
		block, rest = pem.Decode(rest)
	}
	if len(faults) > 0 {
		return faults
	}
	if len(order) == 0 {
		refuse("at least one trust anchor must be provided")
	}
	for _, anchor := range order {
		if at := seen[anchor]; len(at) > 1 {
			refuse("duplicate trust anchor (indices %v)", at)
		}
	}
	return faults
}

// faultOf returns why a block is not the certificate of an authority, or "" if it is one.
func faultOf(block *pem.Block) string {
	switch {
	case block.Type != "CERTIFICATE":
		return "has bad block type: " + block.Type
	case len(block.Headers) > 0:
		return "has PEM block headers"
	}
	switch certificate, err := x509.ParseCertificate(block.Bytes); {
	case err != nil:
		return "does not parse as X.509"
	case !certificate.IsCA:
		return "does not have the CA bit set"
	case !certificate.BasicConstraintsValid:
		return "has invalid basic constraints"
	}
	return ""
}
