package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"podium.dev/podium/internal/registry/kit/fielderrors"
)

// warner collects what is accepted but probably not meant.
type warner struct {
	list []string
	spec *corev1.PodSpec
	meta *metav1.ObjectMeta
	// at is the place of the template; nil for a Pod.
	at *field.Path
}

// Warn returns the warnings that a new Pod deserves.
func Warn(pod *corev1.Pod) []string {
	w := &warner{spec: &pod.Spec, meta: &pod.ObjectMeta}
	if msgs := validation.IsDNS1123Label(pod.Name); len(msgs) != 0 {
		w.list = append(w.list, fmt.Sprintf("metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: %v", msgs))
	}
	w.all()
	return w.list
}

// WarnTemplate returns the warnings that the template of a Pod deserves.
func WarnTemplate(template *corev1.PodTemplateSpec, at *field.Path) []string {
	w := &warner{spec: &template.Spec, meta: &template.ObjectMeta, at: at}
	w.all()
	return w.list
}

func (w *warner) all() {
	at := w.at.Child("spec")
	w.nodeLabels(at)
	w.oldAnnotations()
	for i := range w.spec.Volumes {
		w.volume(&w.spec.Volumes[i], at.Child("volumes").Index(i))
	}
	for i := range w.spec.Volumes {
		w.overlappingFiles(&w.spec.Volumes[i])
	}
	w.duplicates(at)
	w.fractions(w.spec.Overhead, at.Child("overhead"), corev1.ResourceMemory, corev1.ResourceEphemeralStorage)
	if sc := w.spec.SecurityContext; sc == nil || sc.SeccompProfile == nil {
		w.oldProfile(corev1.SeccompPodAnnotationKey)
	}
	for path, c := range containersAt(w.spec, at) {
		w.container(c, path)
	}
	w.ports(at)
	w.portNames(at)
	if grace := w.spec.TerminationGracePeriodSeconds; grace != nil && *grace < 0 {
		w.say(at.Child("terminationGracePeriodSeconds"), "must be >= 0; negative values are invalid and will be treated as 1")
	}
	w.nullSelectors(at.Child("affinity"))
	w.oldAddresses(at)
}

func (w *warner) say(at *field.Path, format string, args ...any) {
	w.list = append(w.list, at.String()+": "+fmt.Sprintf(format, args...))
}

// oldNodeLabels are labels of nodes that are no longer to be used.
var oldNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                       `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                         `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region":      `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":        `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":              `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
	"app.kubernetes.io/created-by":                  "deprecated since v1.9",
	"scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
	"node-role.kubernetes.io/master":                `use "node-role.kubernetes.io/control-plane" instead`,
}

const nullSelector = "a null labelSelector results in matching no pod"

func (w *warner) nodeLabels(at *field.Path) {
	for _, key := range fielderrors.Keys(w.spec.NodeSelector) {
		if msg := oldNodeLabels[key]; msg != "" {
			w.say(at.Child("nodeSelector").Key(key), "%s", msg)
		}
	}
	if a := w.spec.Affinity; a != nil && a.NodeAffinity != nil {
		path := at.Child("affinity", "nodeAffinity")
		if must := a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution; must != nil {
			for i := range must.NodeSelectorTerms {
				w.nodeTerm(&must.NodeSelectorTerms[i], false, path.Child(required, "nodeSelectorTerms").Index(i))
			}
		}
		should := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
		for i := range should {
			w.nodeTerm(&should[i].Preference, true, path.Child(preferred).Index(i).Child("preference"))
		}
	}
	for i, t := range w.spec.TopologySpreadConstraints {
		path := at.Child("topologySpreadConstraints").Index(i)
		if msg := oldNodeLabels[t.TopologyKey]; msg != "" {
			w.say(path.Child("topologyKey"), "%s is %s", t.TopologyKey, msg)
		}
		if t.LabelSelector == nil {
			w.say(path.Child("labelSelector"), nullSelector)
		}
	}
}

func (w *warner) nodeTerm(t *corev1.NodeSelectorTerm, values bool, at *field.Path) {
	for i, e := range t.MatchExpressions {
		path := at.Child("matchExpressions").Index(i)
		if msg := oldNodeLabels[e.Key]; msg != "" {
			w.say(path.Child("key"), "%s is %s", e.Key, msg)
		}
		for j, value := range e.Values {
			for _, msg := range validation.IsValidLabelValue(value) {
				if values {
					w.say(path.Child("values").Index(j), "%s is invalid, %s", value, msg)
				}
			}
		}
	}
}

func (w *warner) oldAnnotations() {
	for _, old := range []struct{ key, msg string }{
		{"scheduler.alpha.kubernetes.io/critical-pod", `non-functional in v1.16+; use the "priorityClassName" field instead`},
		{"security.alpha.kubernetes.io/sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
		{"security.alpha.kubernetes.io/unsafe-sysctls", `non-functional in v1.11+; use the "sysctls" field instead`},
	} {
		if _, ok := w.meta.Annotations[old.key]; ok {
			w.say(w.annotation(old.key), "%s", old.msg)
		}
	}
}

func (w *warner) annotation(key string) *field.Path {
	return w.at.Child("metadata", "annotations").Key(key)
}

// oldProfile warns of a seccomp annotation without the field that took its place.
func (w *warner) oldProfile(key string) {
	if _, ok := w.meta.Annotations[key]; ok {
		w.say(w.annotation(key), `non-functional in v1.27+; use the "seccompProfile" field instead`)
	}
}

func (w *warner) volume(v *corev1.Volume, at *field.Path) {
	for _, old := range []struct {
		set       bool
		name, msg string
	}{
		{v.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{v.GitRepo != nil, "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"},
		{v.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{v.Flocker != nil, "flocker", "deprecated in v1.22, non-functional in v1.25+"},
		{v.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{v.Quobyte != nil, "quobyte", "deprecated in v1.22, non-functional in v1.25+"},
		{v.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
	} {
		if old.set {
			w.say(at.Child(old.name), "%s", old.msg)
		}
	}
	if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
		r := &v.Ephemeral.VolumeClaimTemplate.Spec.Resources
		path := at.Child("ephemeral", "volumeClaimTemplate", "spec", "resources")
		w.fractions(r.Requests, path.Child("requests"), corev1.ResourceStorage)
		w.fractions(r.Limits, path.Child("limits"), corev1.ResourceStorage)
	}
	if v.CephFS != nil {
		w.say(at.Child("cephfs"), "deprecated in v1.28, non-functional in v1.31+")
	}
	if v.RBD != nil {
		w.say(at.Child("rbd"), "deprecated in v1.28, non-functional in v1.31+")
	}
}

// fractions warns of parts of a byte.
func (w *warner) fractions(list corev1.ResourceList, at *field.Path, names ...corev1.ResourceName) {
	for _, name := range names {
		if q, ok := list[name]; ok && hasFraction(q) {
			w.say(at.Key(string(name)), "fractional byte value %q is invalid, must be an integer", q.String())
		}
	}
}

func hasFraction(q resource.Quantity) bool { return q.MilliValue()%1000 != 0 }

func (w *warner) duplicates(at *field.Path) {
	seen := sets.New[string]()
	for i, alias := range w.spec.HostAliases {
		if seen.Has(alias.IP) {
			w.say(at.Child("hostAliases").Index(i).Child("ip"), "duplicate ip %q", alias.IP)
		}
		seen.Insert(alias.IP)
	}
	secrets := at.Child("imagePullSecrets")
	seen = sets.New[string]()
	for i, secret := range w.spec.ImagePullSecrets {
		if seen.Has(secret.Name) {
			w.say(secrets.Index(i).Child("name"), "duplicate name %q", secret.Name)
		}
		seen.Insert(secret.Name)
	}
	for i, secret := range w.spec.ImagePullSecrets {
		if secret.Name == "" {
			w.say(secrets.Index(i).Child("name"), "invalid empty name %q", "")
		}
	}
}

func (w *warner) container(c *corev1.Container, at *field.Path) {
	sc := c.SecurityContext
	if sc == nil || sc.SeccompProfile == nil {
		w.oldProfile(corev1.SeccompContainerAnnotationKeyPrefix + c.Name)
	}
	// For a Pod this warning is given when it is prepared, before the annotation becomes a field.
	if w.at != nil && (sc == nil || sc.AppArmorProfile == nil) {
		w.appArmorAnnotation(AppArmorAnnotation + c.Name)
	}
	limits, requests := at.Child("resources", "limits"), at.Child("resources", "requests")
	for _, name := range []corev1.ResourceName{corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		w.fractions(c.Resources.Limits, limits, name)
		w.fractions(c.Resources.Requests, requests, name)
	}
	seen := sets.New[string]()
	for i := range c.Env {
		v := &c.Env[i]
		if seen.Has(v.Name) && hidesOther(v) {
			w.say(at.Child("env").Index(i), "hides previous definition of %q, which may be dropped when using apply", v.Name)
		}
		seen.Insert(v.Name)
	}
}

// hidesOther reports whether a second definition of a variable makes no use of the first.
func hidesOther(v *corev1.EnvVar) bool {
	self := "$(" + v.Name + ")"
	return v.ValueFrom != nil || v.Value == self || !strings.Contains(v.Value, self)
}

func (w *warner) appArmorAnnotation(key string) {
	text, ok := w.meta.Annotations[key]
	if !ok {
		return
	}
	var whole *corev1.AppArmorProfile
	if w.spec.SecurityContext != nil {
		whole = w.spec.SecurityContext.AppArmorProfile
	}
	if whole == nil || !apiequality.Semantic.DeepEqual(whole, AppArmorProfileOf(text)) {
		w.say(w.annotation(key), `deprecated since v1.30; use the "appArmorProfile" field instead`)
	}
}

// ports warns of ports that are in each other's way, in whichever containers.
func (w *warner) ports(at *field.Path) {
	type port struct {
		at *field.Path
		corev1.ContainerPort
	}
	// More than these are in nobody's way that has not been told of: without a limit, ports cost the square of their number.
	const maxCompared = 8
	byNumber := map[string][]port{}
	for path, c := range containersAt(w.spec, at) {
		for i, p := range c.Ports {
			here := path.Child("ports").Index(i)
			if p.HostIP != "" && p.HostPort == 0 {
				w.say(here, "hostIP set without hostPort: %+v", p)
			}
			key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
			for _, other := range byNumber[key] {
				switch {
				case p.HostIP == other.HostIP && p.HostPort == other.HostPort:
					w.say(here, "duplicate port definition with %s", other.at)
				case p.HostPort == 0 || other.HostPort == 0:
					w.say(here, "overlapping port definition with %s", other.at)
				case p.HostPort == other.HostPort && (p.HostIP == "") != (other.HostIP == ""):
					w.say(here, "dangerously ambiguous port definition with %s", other.at)
				}
			}
			if len(byNumber[key]) < maxCompared {
				byNumber[key] = append(byNumber[key], port{here, p})
			}
		}
	}
}

func (w *warner) portNames(at *field.Path) {
	first := map[string]*field.Path{}
	for path, c := range containersAt(w.spec, at) {
		for i, p := range c.Ports {
			here := path.Child("ports").Index(i)
			if other := first[p.Name]; p.Name != "" && other != nil {
				w.say(here, "duplicate port name %q with %s, services and probes that select ports by name will use %s", p.Name, other, other)
			} else if p.Name != "" {
				first[p.Name] = here
			}
		}
	}
}

func (w *warner) nullSelectors(at *field.Path) {
	a := w.spec.Affinity
	if a == nil {
		return
	}
	if p := a.PodAffinity; p != nil {
		w.nullTerms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAffinity"))
	}
	if p := a.PodAntiAffinity; p != nil {
		w.nullTerms(p.RequiredDuringSchedulingIgnoredDuringExecution, p.PreferredDuringSchedulingIgnoredDuringExecution, at.Child("podAntiAffinity"))
	}
}

func (w *warner) nullTerms(must []corev1.PodAffinityTerm, should []corev1.WeightedPodAffinityTerm, at *field.Path) {
	for i := range must {
		if must[i].LabelSelector == nil {
			w.say(at.Child(required).Index(i).Child("labelSelector"), nullSelector)
		}
	}
	for i := range should {
		if should[i].PodAffinityTerm.LabelSelector == nil {
			w.say(at.Child(preferred).Index(i).Child("podAffinityTerm", "labelSelector"), nullSelector)
		}
	}
}

// oldAddresses warns of IP addresses in forms that not everybody reads alike.
func (w *warner) oldAddresses(at *field.Path) {
	if d := w.spec.DNSConfig; d != nil {
		for i, server := range d.Nameservers {
			w.list = append(w.list, validation.GetWarningsForIP(at.Child("dnsConfig", "nameservers").Index(i), server)...)
		}
	}
	for i, alias := range w.spec.HostAliases {
		w.list = append(w.list, validation.GetWarningsForIP(at.Child("hostAliases").Index(i).Child("ip"), alias.IP)...)
	}
}
