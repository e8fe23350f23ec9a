package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// file is a file that a volume writes, and the source that it comes from.
type file struct{ path, source string }

func (f file) String() string {
	if f.source == "" {
		return fmt.Sprintf("%q", f.path)
	}
	return fmt.Sprintf("%q (%s)", f.path, f.source)
}

// overlappingFiles warns of files in one volume of which one takes the other's place, or lies below it.
func (w *warner) overlappingFiles(v *corev1.Volume) {
	if m := v.ConfigMap; m != nil {
		w.overlaps(v.Name, fmt.Sprintf("ConfigMap %q", m.Name), keyFiles(m.Items, ""))
	}
	if s := v.Secret; s != nil {
		w.overlaps(v.Name, fmt.Sprintf("Secret %q", s.SecretName), keyFiles(s.Items, ""))
	}
	if d := v.DownwardAPI; d != nil {
		w.overlaps(v.Name, "DownwardAPI", downwardFiles(d.Items, ""))
	}
	if v.Projected == nil {
		return
	}
	var before []file
	for _, source := range v.Projected.Sources {
		if source == (corev1.VolumeProjection{}) {
			w.list = append(w.list, fmt.Sprintf("volume %q (Projected) has no sources provided", v.Name))
			continue
		}
		before = w.overlapsAfter(before, v.Name, "Projected", projectedFiles(&source))
	}
}

func (w *warner) overlaps(volume, what string, files []file) {
	w.overlapsAfter(nil, volume, what, files)
}

// maxComparedFiles is how many files of a volume the others are compared with. A warning less does no harm: the validation refuses
// what cannot be.
const maxComparedFiles = 256

// overlapsAfter warns of overlaps of files with each other and with those before, and returns all of them.
func (w *warner) overlapsAfter(before []file, volume, what string, files []file) []file {
	for _, f := range files {
		f.path = strings.TrimRight(f.path, "/")
		for _, other := range before {
			if f.path != "" && other.path != "" && (below(f.path, other.path) || below(other.path, f.path)) {
				w.list = append(w.list, fmt.Sprintf("volume %q (%s): overlapping paths: %s with %s", volume, what, f, other))
			}
		}
		// Without a limit, files cost the square of their number.
		if len(before) < maxComparedFiles {
			before = append(before, f)
		}
	}
	return before
}

// below reports whether a path is another or lies below it.
func below(path, other string) bool { return strings.HasPrefix(path+"/", other+"/") }

func keyFiles(items []corev1.KeyToPath, source string) (files []file) {
	for _, item := range items {
		files = append(files, file{item.Path, source})
	}
	return files
}

func downwardFiles(items []corev1.DownwardAPIVolumeFile, source string) (files []file) {
	for _, item := range items {
		files = append(files, file{item.Path, source})
	}
	return files
}

func projectedFiles(p *corev1.VolumeProjection) []file {
	switch {
	case p.ConfigMap != nil && p.ConfigMap.Items != nil:
		return keyFiles(p.ConfigMap.Items, fmt.Sprintf("ConfigMap %q", p.ConfigMap.Name))
	case p.Secret != nil && p.Secret.Items != nil:
		return keyFiles(p.Secret.Items, fmt.Sprintf("Secret %q", p.Secret.Name))
	case p.DownwardAPI != nil && p.DownwardAPI.Items != nil:
		return downwardFiles(p.DownwardAPI.Items, "DownwardAPI")
	case p.ServiceAccountToken != nil:
		return []file{{p.ServiceAccountToken.Path, "ServiceAccountToken"}}
	case p.ClusterTrustBundle != nil:
		name := p.ClusterTrustBundle.SignerName
		if p.ClusterTrustBundle.Name != nil {
			name = p.ClusterTrustBundle.Name
		}
		if name == nil { // neither is refused before warnings are asked for
			return nil
		}
		return []file{{p.ClusterTrustBundle.Path, fmt.Sprintf("ClusterTrustBundle %q", *name)}}
	case p.PodCertificate != nil:
		return certificateFiles(p.PodCertificate)
	}
	return nil
}

func certificateFiles(c *corev1.PodCertificateProjection) (files []file) {
	for _, f := range []file{
		{c.CertificateChainPath, "PodCertificate chain"}, {c.KeyPath, "PodCertificate key"}, {c.CredentialBundlePath, "PodCertificate credential bundle"},
	} {
		if f.path != "" {
			files = append(files, f)
		}
	}
	return files
}
