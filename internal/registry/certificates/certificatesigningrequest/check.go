package certificatesigningrequest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/validate"
)

// legacySigner is the signer of requests that named none, from the time when the field was optional.
const legacySigner = "kubernetes.io/legacy-unknown"

// minSeconds is the shortest lifetime that may be requested.
const minSeconds = 600

// usages are the valid key usages, in the order in which messages list them.
var usages = sets.List(sets.New(
	string(certificatesv1.UsageSigning), string(certificatesv1.UsageDigitalSignature), string(certificatesv1.UsageContentCommitment),
	string(certificatesv1.UsageKeyEncipherment), string(certificatesv1.UsageKeyAgreement), string(certificatesv1.UsageDataEncipherment),
	string(certificatesv1.UsageCertSign), string(certificatesv1.UsageCRLSign), string(certificatesv1.UsageEncipherOnly),
	string(certificatesv1.UsageDecipherOnly), string(certificatesv1.UsageAny), string(certificatesv1.UsageServerAuth),
	string(certificatesv1.UsageClientAuth), string(certificatesv1.UsageCodeSigning), string(certificatesv1.UsageEmailProtection),
	string(certificatesv1.UsageSMIME), string(certificatesv1.UsageIPsecEndSystem), string(certificatesv1.UsageIPsecTunnel),
	string(certificatesv1.UsageIPsecUser), string(certificatesv1.UsageTimestamping), string(certificatesv1.UsageOCSPSigning),
	string(certificatesv1.UsageMicrosoftSGC), string(certificatesv1.UsageNetscapeSGC),
))

func check(_ context.Context, r *certificatesv1.CertificateSigningRequest) field.ErrorList {
	return validate.InOrder(checkRequest(r, nil))
}

// anyName accepts every name that is valid in a path.
func anyName(string, bool) []string { return nil }

// checkRequest validates a request. Errors that old already had, if it is not nil, are not reported.
func checkRequest(r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	spec := field.NewPath("spec")
	faults := validate.Meta(&r.ObjectMeta, false, anyName)
	if err := checkPEM(r.Spec.Request); err != nil {
		faults = append(faults, field.Invalid(spec.Child("request"), r.Spec.Request, err.Error()))
	}
	faults = append(faults, checkUsages(r.Spec.Usages, spec.Child("usages"))...)
	if name := r.Spec.SignerName; name == legacySigner && old == nil {
		faults = append(faults, field.Invalid(spec.Child("signerName"), name, "the legacy signerName is not allowed via this API version"))
	} else {
		faults = append(faults, checkSigner(name, spec.Child("signerName"))...)
	}
	if n := r.Spec.ExpirationSeconds; n != nil && *n < minSeconds {
		faults = append(faults, field.Invalid(spec.Child("expirationSeconds"), *n, "may not specify a duration less than 600 seconds (10 minutes)"))
	}
	faults = append(faults, checkConditions(r.Status.Conditions, field.NewPath("status", "conditions"))...)
	if old == nil || !bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		if err := checkCertificate(r.Status.Certificate); err != nil {
			faults = append(faults, field.Invalid(field.NewPath("status", "certificate"), "<certificate data>", err.Error()))
		}
	}
	return faults
}

// checkPEM requires a certificate request that is signed by its own key.
func checkPEM(data []byte) error {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return err
	}
	return request.CheckSignature()
}

func checkUsages(list []certificatesv1.KeyUsage, path *field.Path) (faults field.ErrorList) {
	if len(list) == 0 {
		faults = append(faults, field.Required(path, ""))
	}
	for i, u := range list {
		if !slices.Contains(usages, string(u)) {
			faults = append(faults, field.NotSupported(path.Index(i), u, usages))
		}
	}
	seen := sets.New[certificatesv1.KeyUsage]()
	for i, u := range list {
		if seen.Has(u) {
			faults = append(faults, field.Duplicate(path.Index(i), u))
		}
		seen.Insert(u)
	}
	return faults
}

func checkConditions(list []certificatesv1.CertificateSigningRequestCondition, path *field.Path) (faults field.ErrorList) {
	seen := sets.New[certificatesv1.RequestConditionType]()
	for i, c := range list {
		at := path.Index(i)
		if c.Type == "" {
			faults = append(faults, field.Required(at.Child("type"), ""))
		}
		known := []string{string(corev1.ConditionFalse), string(corev1.ConditionTrue), string(corev1.ConditionUnknown)}
		switch c.Type {
		case certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed:
			known = []string{string(corev1.ConditionTrue)}
		}
		if c.Status == "" {
			faults = append(faults, field.Required(at.Child("status"), ""))
		} else if !slices.Contains(known, string(c.Status)) {
			faults = append(faults, field.NotSupported(at.Child("status"), c.Status, known))
		}
		opposite := c.Type == certificatesv1.CertificateApproved && seen.Has(certificatesv1.CertificateDenied) ||
			c.Type == certificatesv1.CertificateDenied && seen.Has(certificatesv1.CertificateApproved)
		if opposite {
			faults = append(faults, contradiction(path)...)
		}
		if seen.Has(c.Type) {
			faults = append(faults, field.Duplicate(at.Child("type"), c.Type))
		}
		seen.Insert(c.Type)
	}
	return faults
}

// checkCertificate requires that data holds nothing but certificates, or is empty.
func checkCertificate(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	blocks := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("only CERTIFICATE PEM blocks are allowed, found %q", block.Type)
		}
		if len(block.Headers) != 0 {
			return errors.New("no PEM block headers are permitted")
		}
		certificates, err := x509.ParseCertificates(block.Bytes)
		if err != nil {
			return err
		}
		if len(certificates) == 0 {
			return errors.New("found CERTIFICATE PEM block containing 0 certificates")
		}
		blocks++
	}
	if blocks == 0 {
		return errors.New("must contain at least one CERTIFICATE PEM block")
	}
	return nil
}

// rules define what an update may do.
type rules struct {
	decide bool // add the conditions Approved and Denied
	issue  bool // set the certificate
}

func (u rules) checkUpdate(_ context.Context, r, old *certificatesv1.CertificateSigningRequest) field.ErrorList {
	faults := checkRequest(r, old)
	conditions := field.NewPath("status", "conditions")
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied, certificatesv1.CertificateFailed} {
		if len(find(&r.Status, t)) < len(find(&old.Status, t)) {
			faults = append(faults, field.Forbidden(conditions, fmt.Sprintf("updates may not remove a condition of type %q", t)))
		}
	}
	if !u.decide {
		faults = append(faults, undecided(r, old, conditions)...)
	}
	if at := field.NewPath("status", "certificate"); !bytes.Equal(r.Status.Certificate, old.Status.Certificate) {
		if !u.issue {
			faults = append(faults, field.Forbidden(at, "updates may not set certificate content"))
		} else if len(old.Status.Certificate) > 0 {
			faults = append(faults, field.Forbidden(at, "updates may not modify existing certificate content"))
		}
	}
	return validate.InOrder(faults, validate.MetaUpdate(&r.ObjectMeta, &old.ObjectMeta))
}

// undecided reports an update that approves, denies, or changes an earlier decision.
func undecided(r, old *certificatesv1.CertificateSigningRequest, path *field.Path) (faults field.ErrorList) {
	for _, t := range []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied} {
		now, before := find(&r.Status, t), find(&old.Status, t)
		switch {
		case len(now) > len(before):
			faults = append(faults, field.Forbidden(path, fmt.Sprintf("updates may not add a condition of type %q", t)))
		case len(now) == len(before) && !apiequality.Semantic.DeepEqual(before, now):
			faults = append(faults, field.Forbidden(path, fmt.Sprintf("updates may not modify a condition of type %q\n%v", t, diff.Diff(validate.Shown(before), validate.Shown(now)))))
		}
	}
	return faults
}

// contradiction returns the error of a request that is both approved and denied.
func contradiction(path *field.Path) field.ErrorList {
	const approved, denied = `conditions[{"type": "Approved"}]`, `conditions[{"type": "Denied"}]`
	return validate.Declared(field.Invalid(path, "{"+approved+", "+denied+"}", "must specify at most one of: `"+approved+"`, `"+denied+"`"))
}
