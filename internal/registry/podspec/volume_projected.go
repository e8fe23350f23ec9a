package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
	"podium.dev/podium/internal/registry/kit/validate"
)

const (
	// shortestTokenSeconds and longestTokenSeconds bound the life of a projected service-account token.
	shortestTokenSeconds = 10 * 60
	longestTokenSeconds  = 1 << 32
	// shortestCertSeconds and the two below bound the life of a Pod's certificate; Kubernetes' own signers
	// give at most a day.
	shortestCertSeconds       = 60 * 60
	longestCertSeconds        = 91 * 24 * 60 * 60
	longestKubernetesCertSecs = 24 * 60 * 60
)

// projection judges the sources of one projected volume, which may not write the same file twice.
type projection struct {
	*checker
	at    *field.Path // of the volume source
	files sets.Set[string]
}

func (c *checker) projected(p *corev1.ProjectedVolumeSource, at *field.Path) {
	c.fileMode(p.DefaultMode, at.Child("defaultMode"))
	c.user(p.DefaultUser, at.Child("defaultUser"))
	all := &projection{checker: c, at: at, files: sets.New[string]()}
	for i := range p.Sources {
		all.source(&p.Sources[i], at.Child("sources").Index(i))
	}
}

func (p *projection) source(s *corev1.VolumeProjection, at *field.Path) {
	types := 0
	if s.Secret != nil {
		types++
		p.keyed(s.Secret.Name, s.Secret.Items, at.Child("secret"))
	}
	if s.ConfigMap != nil {
		types++
		p.keyed(s.ConfigMap.Name, s.ConfigMap.Items, at.Child("configMap"))
	}
	if s.DownwardAPI != nil {
		types++
		for i := range s.DownwardAPI.Items {
			file := &s.DownwardAPI.Items[i]
			p.downwardFile(file, at.Child("downwardAPI"))
			if file.Path != "" {
				p.writes(file.Path, file.Path)
			}
		}
	}
	if s.ServiceAccountToken != nil {
		types++
		p.token(s.ServiceAccountToken, at.Child("serviceAccountToken"))
	}
	if s.ClusterTrustBundle != nil {
		types++
		p.trustBundle(s.ClusterTrustBundle, at.Child("clusterTrustBundle"))
	}
	if s.PodCertificate != nil {
		types++
		p.certificate(s.PodCertificate, at.Child("podCertificate"))
	}
	if types > 1 {
		p.Forbidden(at, "may not specify more than 1 volume type per source")
	}
}

// writes notes that a source writes a file; value is shown when another source does so too.
func (p *projection) writes(file, value string) {
	if p.files.Has(file) {
		p.Invalid(p.at, value, "conflicting duplicate paths")
	}
	p.files.Insert(file)
}

func (p *projection) keyed(name string, items []corev1.KeyToPath, at *field.Path) {
	p.needs(name, at.Child("name"))
	p.keysToPaths(items, at.Child("items"), func(path string) { p.writes(path, name) })
}

// token judges a service-account token. A fault of its path is told for the volume, as in Kubernetes.
func (p *projection) token(t *corev1.ServiceAccountTokenProjection, at *field.Path) {
	life := at.Child("expirationSeconds")
	if t.ExpirationSeconds == nil {
		p.Required(life, "")
	} else {
		if *t.ExpirationSeconds < shortestTokenSeconds {
			p.Invalid(life, *t.ExpirationSeconds, "may not specify a duration less than 10 minutes")
		}
		if *t.ExpirationSeconds > longestTokenSeconds {
			p.Invalid(life, *t.ExpirationSeconds, "may not specify a duration larger than 2^32 seconds")
		}
	}
	if t.Path == "" {
		p.Required(p.at.Child("path"), "")
	} else if !p.lenient.tokenPath {
		pathInVolume(&p.List, t.Path, p.at.Child("path"))
	}
	p.user(t.User, at.Child("user"))
}

func (p *projection) trustBundle(b *corev1.ClusterTrustBundleProjection, at *field.Path) {
	switch {
	case b.Name != nil && b.SignerName != nil:
		p.Invalid(at, fielderrors.GoView(b), "only one of name and signerName may be used")
	case b.Name != nil:
		p.trustBundleName(*b.Name, at.Child("name"))
		if b.LabelSelector != nil {
			p.Invalid(at.Child("labelSelector"), b.LabelSelector, "labelSelector must be unset if name is specified")
		}
	case b.SignerName != nil:
		if *b.SignerName == "" {
			p.Required(at.Child("signerName"), "must be a valid signer name")
		}
		p.Add(validate.SignerName(*b.SignerName, at.Child("signerName"))...)
		p.Add(metavalidation.ValidateLabelSelector(b.LabelSelector, metavalidation.LabelSelectorValidationOptions{}, at.Child("labelSelector"))...)
	default:
		p.Required(at, "either name or signerName must be specified")
	}
	p.needs(b.Path, at.Child("path"))
	p.user(b.User, at.Child("user"))
	pathInVolume(&p.List, b.Path, at.Child("path"))
	p.writes(b.Path, b.Path)
}

// trustBundleName judges the name of a trust bundle: SIGNER-DOMAIN:SIGNER-PATH:NAME, or just NAME.
func (p *projection) trustBundleName(name string, at *field.Path) {
	if name == "" {
		p.Required(at, "must be a valid object name")
	}
	for _, msg := range trustBundleFaults(name) {
		p.Invalid(at, name, fmt.Sprintf("not a valid clustertrustbundlename: %v", msg))
	}
}

func trustBundleFaults(name string) []string {
	cut := strings.LastIndex(name, ":")
	if cut < 0 {
		return apivalidation.NameIsDNSSubdomain(name, false)
	}
	prefix := strings.ReplaceAll(name[:cut+1], "/", ":")
	switch {
	case cut == 0:
		return []string{"ClusterTrustBundle without signer name must not have \":\" in its name"}
	case !strings.HasPrefix(name, prefix):
		signer := strings.ReplaceAll(name[:cut], ":", "/")
		return []string{fmt.Sprintf("ClusterTrustBundle for signerName %s must be named with prefix %s", signer, prefix)}
	}
	return apivalidation.NameIsDNSSubdomain(name[cut+1:], false)
}

func (p *projection) certificate(cert *corev1.PodCertificateProjection, at *field.Path) {
	p.Add(validate.SignerName(cert.SignerName, at.Child("signerName"))...)
	p.userAnnotations(cert.UserAnnotations, at.Child("userAnnotations"))
	p.user(cert.User, at.Child("user"))
	fielderrors.OneOf(&p.List, at.Child("keyType"), cert.KeyType, "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
	if cert.MaxExpirationSeconds != nil {
		p.certificateLife(*cert.MaxExpirationSeconds, cert.SignerName, at.Child("maxExpirationSeconds"))
	}
	written := 0
	for _, f := range []struct{ name, path string }{
		{"credentialBundlePath", cert.CredentialBundlePath}, {"keyPath", cert.KeyPath}, {"certificateChainPath", cert.CertificateChainPath},
	} {
		if f.path != "" {
			written++
			pathInVolume(&p.List, f.path, at.Child(f.name))
			p.writes(f.path, f.path)
		}
	}
	if written == 0 {
		p.Required(at, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")
	}
}

func (p *projection) certificateLife(seconds int32, signer string, at *field.Path) {
	if seconds < shortestCertSeconds {
		p.Invalid(at, seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be >= %d", shortestCertSeconds))
	}
	longest := int32(longestCertSeconds)
	if domain, _, _ := strings.Cut(signer, "/"); domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io") {
		longest = longestKubernetesCertSecs
	}
	if seconds > longest {
		p.Invalid(at, seconds, fmt.Sprintf("if provided, maxExpirationSeconds must be <= %d", longest))
	}
}

func (p *projection) userAnnotations(annotations map[string]string, at *field.Path) {
	for _, key := range fielderrors.Keys(annotations) {
		p.Add(validation.IsDomainPrefixedKey(at, strings.ToLower(key))...)
	}
	if apivalidation.ValidateAnnotationsSize(annotations) != nil {
		p.TooLong(at, apivalidation.TotalAnnotationSizeLimitB)
	}
}
