package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/storage/names"
	"k8s.io/utils/ptr"

	"podium.dev/podium/internal/apistore"
)

const (
	defaultServiceAccount = "default"
	// tokenVolume is how the name of the token's volume begins, and tokenPath where it is mounted.
	tokenVolume = "kube-api-access-"
	tokenPath   = "/var/run/secrets/kubernetes.io/serviceaccount"
	// tokenSeconds is the life that the volume asks for; it marks the token as one of a Pod's default volume.
	tokenSeconds = 3607
	// awaitDefault is how long a Pod waits for the default service account of a namespace that is just new.
	awaitDefault = 1500 * time.Millisecond
	// enforceMountable makes a service account limit which Secrets its Pods may use.
	enforceMountable = "kubernetes.io/enforce-mountable-secrets"
)

// serviceAccount gives each Pod a service account, and its containers the account's token.
type serviceAccount struct {
	*admission.Handler
	stores   apistore.Stores
	generate func(base string) string
}

var (
	_ admission.MutationInterface   = &serviceAccount{}
	_ admission.ValidationInterface = &serviceAccount{}
)

func newServiceAccount(stores apistore.Stores) *serviceAccount {
	return &serviceAccount{
		Handler: admission.NewHandler(admission.Create, admission.Update), stores: stores,
		generate: names.SimpleNameGenerator.GenerateName,
	}
}

// Admit implements admission.MutationInterface.
func (s *serviceAccount) Admit(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, err := pod(a)
	if p == nil || a.GetOperation() != admission.Create {
		return err
	}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return s.Validate(ctx, a, nil) // a change would make it differ from the static Pod
	}
	if p.Spec.ServiceAccountName == "" {
		p.Spec.ServiceAccountName = defaultServiceAccount
		p.Spec.DeprecatedServiceAccount = defaultServiceAccount
	}
	sa, err := s.find(ctx, a.GetNamespace(), p.Spec.ServiceAccountName)
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), p.Spec.ServiceAccountName, err))
	}
	if wantsToken(sa, p) {
		s.mountToken(p)
	}
	if len(p.Spec.ImagePullSecrets) == 0 {
		p.Spec.ImagePullSecrets = slices.Clone(sa.ImagePullSecrets)
	}
	return s.Validate(ctx, a, nil)
}

// Validate implements admission.ValidationInterface.
func (s *serviceAccount) Validate(ctx context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	p, ok := a.GetObject().(*corev1.Pod)
	if !ok || a.GetResource().GroupResource() != podsResource {
		return nil
	}
	var check func(*corev1.ServiceAccount, *corev1.Pod) error
	switch {
	case a.GetOperation() == admission.Update && a.GetSubresource() == "ephemeralcontainers":
		check = limitEphemeral
	case a.GetOperation() == admission.Create && a.GetSubresource() == "":
		check = limitSecrets
		if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
			if err := checkMirror(p); err != nil {
				return admission.NewForbidden(a, err)
			}
			return nil
		}
	default:
		return nil
	}
	if p.Spec.ServiceAccountName == "" {
		return admission.NewForbidden(a, fmt.Errorf("no service account specified for pod %s/%s", a.GetNamespace(), p.Name))
	}
	sa, err := s.find(ctx, a.GetNamespace(), p.Spec.ServiceAccountName)
	if err != nil {
		return admission.NewForbidden(a, fmt.Errorf("error looking up service account %s/%s: %w", a.GetNamespace(), p.Spec.ServiceAccountName, err))
	}
	if enforce, _ := strconv.ParseBool(sa.Annotations[enforceMountable]); enforce {
		if err := check(sa, p); err != nil {
			return admission.NewForbidden(a, err)
		}
	}
	return nil
}

// find returns a service account. For the default one of a namespace, which a controller makes, it
// waits a little.
func (s *serviceAccount) find(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	sa, err := find[*corev1.ServiceAccount](ctx, s.stores, apistore.Core("serviceaccounts"), namespace, name)
	if !apierrors.IsNotFound(err) {
		return sa, err
	}
	if name == defaultServiceAccount {
		if sa := s.await(ctx, namespace, name); sa != nil {
			return sa, nil
		}
	}
	return nil, apierrors.NewNotFound(apistore.Core("serviceaccount"), name)
}

func (s *serviceAccount) await(ctx context.Context, namespace, name string) *corev1.ServiceAccount {
	ctx, cancel := context.WithTimeout(ctx, awaitDefault)
	defer cancel()
	w, err := s.stores(apistore.Core("serviceaccounts")).Watch(apistore.Context(ctx, namespace), &metainternal.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("metadata.name", name), ResourceVersion: "0",
	})
	if err != nil {
		return nil
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			if e.Type != watch.Added && e.Type != watch.Modified {
				continue
			}
			// The event may hold the object wrapped, so it is read again.
			if sa, err := apistore.Get[*corev1.ServiceAccount](ctx, s.stores, apistore.Core("serviceaccounts"), namespace, name); err == nil {
				return sa
			}
		}
	}
}

// wantsToken reports whether a Pod gets its account's token: as the Pod says, or else the account, or else yes.
func wantsToken(sa *corev1.ServiceAccount, p *corev1.Pod) bool {
	if p.Spec.AutomountServiceAccountToken != nil {
		return *p.Spec.AutomountServiceAccountToken
	}
	return ptr.Deref(sa.AutomountServiceAccountToken, true)
}

// mountToken mounts the token into each container that has nothing in its place, and adds the volume when
// one does.
func (s *serviceAccount) mountToken(p *corev1.Pod) {
	name, have := "", false
	for _, v := range p.Spec.Volumes {
		if strings.HasPrefix(v.Name, tokenVolume) {
			name, have = v.Name, true
			break
		}
	}
	if !have {
		name = s.generate(tokenVolume)
	}
	used := false
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if slices.ContainsFunc(list[i].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == tokenPath }) {
				continue
			}
			list[i].VolumeMounts = append(list[i].VolumeMounts, corev1.VolumeMount{Name: name, ReadOnly: true, MountPath: tokenPath})
			used = true
		}
	}
	if used && !have {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: tokenSource()}})
	}
}

// tokenSource is the token, the CA's certificate and the namespace, as each program in a Pod expects them.
func tokenSource() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To(corev1.ProjectedVolumeSourceDefaultMode),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To(int64(tokenSeconds))}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}

// checkMirror lets a mirror Pod refer to nothing: it would give a node what is not its own.
func checkMirror(p *corev1.Pod) error {
	if p.Spec.ServiceAccountName != "" {
		return errors.New("a mirror pod may not reference service accounts")
	}
	if len(secretsOf(p)) > 0 {
		return errors.New("a mirror pod may not reference secrets")
	}
	for _, v := range p.Spec.Volumes {
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
			return errors.New("a mirror pod may not use ServiceAccountToken volume projections")
		}
	}
	return nil
}

// secretsOf returns the names of the Secrets that a Pod refers to.
func secretsOf(p *corev1.Pod) (all []string) {
	for _, s := range p.Spec.ImagePullSecrets {
		all = append(all, s.Name)
	}
	for _, u := range uses(p) {
		all = append(all, u.secret)
	}
	for _, v := range p.Spec.Volumes {
		if v.Secret != nil {
			all = append(all, v.Secret.SecretName)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					all = append(all, s.Secret.Name)
				}
			}
		}
	}
	return all
}

// use is a Secret in the environment of a container: of one variable, or as a whole.
type use struct{ kind, container, variable, secret string }

func uses(p *corev1.Pod) (all []use) {
	for i := range p.Spec.InitContainers {
		all = append(all, usesIn("init container", p.Spec.InitContainers[i].Name, p.Spec.InitContainers[i].Env, p.Spec.InitContainers[i].EnvFrom)...)
	}
	for i := range p.Spec.Containers {
		all = append(all, usesIn("container", p.Spec.Containers[i].Name, p.Spec.Containers[i].Env, p.Spec.Containers[i].EnvFrom)...)
	}
	return append(all, ephemeralUses(p)...)
}

func ephemeralUses(p *corev1.Pod) (all []use) {
	for i := range p.Spec.EphemeralContainers {
		c := &p.Spec.EphemeralContainers[i]
		all = append(all, usesIn("ephemeral container", c.Name, c.Env, c.EnvFrom)...)
	}
	return all
}

func usesIn(kind, container string, env []corev1.EnvVar, from []corev1.EnvFromSource) (all []use) {
	for _, e := range env {
		if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			all = append(all, use{kind, container, e.Name, e.ValueFrom.SecretKeyRef.Name})
		}
	}
	for _, f := range from {
		if f.SecretRef != nil {
			all = append(all, use{kind, container, "", f.SecretRef.Name})
		}
	}
	return all
}

func limitUses(sa *corev1.ServiceAccount, all []use) error {
	for _, u := range all {
		if mountable(sa, u.secret) {
			continue
		}
		how := "envFrom"
		if u.variable != "" {
			how = "envVar " + u.variable
		}
		return fmt.Errorf("%s %s with %s referencing secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret",
			u.kind, u.container, how, u.secret, sa.Name)
	}
	return nil
}

func mountable(sa *corev1.ServiceAccount, secret string) bool {
	return slices.ContainsFunc(sa.Secrets, func(r corev1.ObjectReference) bool { return r.Name == secret })
}

func limitEphemeral(sa *corev1.ServiceAccount, p *corev1.Pod) error {
	return limitUses(sa, ephemeralUses(p))
}

func limitSecrets(sa *corev1.ServiceAccount, p *corev1.Pod) error {
	for _, v := range p.Spec.Volumes {
		if v.Secret != nil && !mountable(sa, v.Secret.SecretName) {
			return fmt.Errorf("volume with secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret", v.Secret.SecretName, sa.Name)
		}
	}
	if err := limitUses(sa, uses(p)); err != nil {
		return err
	}
	for i, r := range p.Spec.ImagePullSecrets {
		if !slices.Contains(sa.ImagePullSecrets, r) {
			return fmt.Errorf("imagePullSecrets[%d].name=\"%s\" is not allowed because service account %s does not reference that imagePullSecret", i, r.Name, sa.Name)
		}
	}
	return nil
}
