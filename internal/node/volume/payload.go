package volume

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"podium.dev/podium/internal/node/downward"
	"podium.dev/podium/internal/node/poddir"
)

// file is one file of a projected volume.
type file struct {
	data []byte
	mode int32
	// user owns it; nil is root.
	user *int64
}

// payload is a volume's files by their paths.
type payload map[string]file

var errNoMode = errors.New("no defaultMode used, not even the default value for it")

// project makes a volume from what it shows, or brings it up to date; due is when to do so again at the
// latest, zero for when something changes.
func (m *Manager) project(ctx context.Context, pod *v1.Pod, v *v1.Volume) (due time.Time, err error) {
	files, due, err := m.collect(ctx, pod, v)
	if err != nil {
		return due, err
	}
	dir := poddir.Volume(m.cfg.Paths, pod.UID, pluginOf(v), v.Name)
	o := ownerOf(pod, true)
	if v.Secret != nil || v.Projected != nil {
		// What is secret never meets the disk.
		err = makeTmpfs(dir, 0o777, m.memorySize(pod, nil), o)
	} else {
		err = makeFolder(dir, 0o777, o)
	}
	if err == nil {
		err = makeNested(dir, nestedMounts(v.Name, pod))
	}
	if err != nil {
		return due, err
	}
	return due, writeAtomic(dir, files, m.cfg.Clock.Now(), o.takeAll)
}

func (m *Manager) collect(ctx context.Context, pod *v1.Pod, v *v1.Volume) (payload, time.Time, error) {
	files := payload{}
	var err error
	switch {
	case v.ConfigMap != nil:
		s := v.ConfigMap
		err = m.addConfigMap(ctx, files, pod, s.Name, s.Items, s.Optional, modes{s.DefaultMode, s.DefaultUser})
	case v.Secret != nil:
		s := v.Secret
		err = m.addSecret(ctx, files, pod, s.SecretName, s.Items, s.Optional, modes{s.DefaultMode, s.DefaultUser})
	case v.DownwardAPI != nil:
		err = m.addDownward(files, pod, v.DownwardAPI.Items, modes{v.DownwardAPI.DefaultMode, v.DownwardAPI.DefaultUser})
	case v.Projected != nil:
		return m.collectProjected(ctx, pod, v.Projected)
	}
	return files, time.Time{}, err
}

// modes are a volume's defaults for its files.
type modes struct {
	mode *int32
	user *int64
}

// of is a file with its own mode and user where it has them.
func (d modes) of(data []byte, mode *int32, user *int64) file {
	f := file{data: data, mode: *d.mode, user: d.user}
	if mode != nil {
		f.mode = *mode
	}
	if user != nil {
		f.user = user
	}
	return f
}

func (m *Manager) collectProjected(ctx context.Context, pod *v1.Pod, s *v1.ProjectedVolumeSource) (payload, time.Time, error) {
	files := payload{}
	var due time.Time
	var failed []error
	d := modes{s.DefaultMode, s.DefaultUser}
	for i := range s.Sources {
		source := &s.Sources[i]
		var err error
		switch {
		case source.Secret != nil:
			err = m.addSecret(ctx, files, pod, source.Secret.Name, source.Secret.Items, source.Secret.Optional, d)
		case source.ConfigMap != nil:
			err = m.addConfigMap(ctx, files, pod, source.ConfigMap.Name, source.ConfigMap.Items, source.ConfigMap.Optional, d)
		case source.DownwardAPI != nil:
			err = m.addDownward(files, pod, source.DownwardAPI.Items, d)
		case source.ServiceAccountToken != nil:
			var at time.Time
			at, err = m.addToken(ctx, files, pod, source.ServiceAccountToken, d)
			if !at.IsZero() && (due.IsZero() || at.Before(due)) {
				due = at
			}
		case source.ClusterTrustBundle != nil:
			err = m.addTrust(ctx, files, pod, source.ClusterTrustBundle, d)
		case source.PodCertificate != nil:
			err = errors.New("PodCertificate projection is not supported by this node")
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return files, due, utilerrors.NewAggregate(failed)
}

func (m *Manager) addConfigMap(ctx context.Context, files payload, pod *v1.Pod, name string, items []v1.KeyToPath, optional *bool, d modes) error {
	if d.mode == nil {
		return errNoMode
	}
	data := map[string][]byte{}
	cm, err := m.cfg.Objects.ConfigMap(ctx, pod, name)
	if err = unlessOptional(err, optional); err != nil {
		return err
	}
	if cm != nil {
		for key, value := range cm.BinaryData {
			data[key] = value
		}
		for key, value := range cm.Data {
			data[key] = []byte(value)
		}
	}
	return addKeys(files, data, items, optional, d, "configmap references non-existent config key: %s")
}

func (m *Manager) addSecret(ctx context.Context, files payload, pod *v1.Pod, name string, items []v1.KeyToPath, optional *bool, d modes) error {
	if d.mode == nil {
		return errNoMode
	}
	secret, err := m.cfg.Objects.Secret(ctx, pod, name)
	if err = unlessOptional(err, optional); err != nil {
		return err
	}
	var data map[string][]byte
	if secret != nil {
		data = secret.Data
	}
	return addKeys(files, data, items, optional, d, "references non-existent secret key: %s")
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// addKeys adds the keys that items name at their paths, or all keys by their names.
func addKeys(files payload, data map[string][]byte, items []v1.KeyToPath, optional *bool, d modes, missing string) error {
	if len(items) == 0 {
		for key, value := range data {
			files[key] = d.of(value, nil, nil)
		}
		return nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		switch {
		case ok:
			files[item.Path] = d.of(value, item.Mode, item.User)
		case optional == nil || !*optional:
			return fmt.Errorf(missing, item.Key)
		}
	}
	return nil
}

func (m *Manager) addDownward(files payload, pod *v1.Pod, items []v1.DownwardAPIVolumeFile, d modes) error {
	if d.mode == nil {
		return errNoMode
	}
	var failed []error
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = downward.Field(item.FieldRef, pod, m.addresses(pod))
		case item.ResourceFieldRef != nil:
			var allocatable v1.ResourceList
			if m.cfg.Allocatable != nil {
				allocatable = m.cfg.Allocatable()
			}
			value, err = downward.Resource(item.ResourceFieldRef, pod, nil, allocatable)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		files[filepath.Clean(item.Path)] = d.of([]byte(value), item.Mode, item.User)
	}
	return utilerrors.NewAggregate(failed)
}

// addToken adds a service-account token.
func (m *Manager) addToken(ctx context.Context, files payload, pod *v1.Pod, s *v1.ServiceAccountTokenProjection, d modes) (time.Time, error) {
	if d.mode == nil {
		return time.Time{}, errNoMode
	}
	token, err := m.cfg.Objects.Token(ctx, pod, s)
	if err != nil {
		return time.Time{}, err
	}
	files[s.Path] = ownFile(pod, []byte(token.Value), s.User, d)
	return token.RefreshAt, nil
}

// ownFile is a file for the Pod alone: one that a user or group of its own can be given is no one else's to read.
func ownFile(pod *v1.Pod, data []byte, user *int64, d modes) file {
	o := ownerOf(pod, true)
	if d.user == nil {
		d.user = o.user
	}
	f := d.of(data, nil, user)
	if f.user != nil || o.group != nil {
		f.mode = 0o600
	}
	return f
}

// addTrust adds the certificates of trust bundles.
func (m *Manager) addTrust(ctx context.Context, files payload, pod *v1.Pod, s *v1.ClusterTrustBundleProjection, d modes) error {
	if d.mode == nil {
		return errNoMode
	}
	certificates, err := m.cfg.Objects.TrustAnchors(ctx, s)
	if err != nil {
		return err
	}
	files[s.Path] = ownFile(pod, certificates, s.User, d)
	return nil
}

// addresses are those of the node and, once they are known, the Pod.
func (m *Manager) addresses(pod *v1.Pod) downward.Addresses {
	var at downward.Addresses
	if m.cfg.HostIPs != nil {
		at.HostIPs = m.cfg.HostIPs()
	}
	for _, ip := range pod.Status.PodIPs {
		at.PodIPs = append(at.PodIPs, ip.IP)
	}
	return at
}
