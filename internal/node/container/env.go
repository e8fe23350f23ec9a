package container

import (
	"context"
	"fmt"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"podium.dev/podium/internal/node/downward"
	"podium.dev/podium/internal/node/expand"
	"podium.dev/podium/internal/podutil"
)

// environment is a container's variables in the order of their first mention.
type environment struct {
	names  []string
	values map[string]string
}

func (e *environment) set(name, value string) {
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environment) lookup(name string) (string, bool) {
	value, ok := e.values[name]
	return value, ok
}

func (e *environment) keyValues() []*runtimeapi.KeyValue {
	list := make([]*runtimeapi.KeyValue, 0, len(e.names))
	for _, name := range e.names {
		list = append(list, &runtimeapi.KeyValue{Key: name, Value: []byte(e.values[name])})
	}
	return list
}

// environment works out a container's variables: those of envFrom, over them those of env, and those of
// Services where neither has them. A value may refer to variables before it and to those of Services.
func (b *Builder) environment(ctx context.Context, in Input) (*environment, error) {
	if in.Pod.Spec.EnableServiceLinks == nil {
		return nil, fmt.Errorf("nil pod.spec.enableServiceLinks encountered, cannot construct envvars")
	}
	services, err := b.serviceVariables(ctx, in.Pod)
	if err != nil {
		return nil, err
	}
	e := &environment{values: map[string]string{}}
	for _, from := range in.Container.EnvFrom {
		if err := b.envFrom(ctx, e, in.Pod, from); err != nil {
			return nil, err
		}
	}
	known := func(name string) (string, bool) {
		if value, ok := e.lookup(name); ok {
			return value, true
		}
		value, ok := services.lookup(name)
		return value, ok
	}
	for i := range in.Container.Env {
		v := &in.Container.Env[i]
		value, skip, err := expand.Expand(v.Value, known), false, error(nil)
		if v.Value == "" && v.ValueFrom != nil {
			value, skip, err = b.valueFrom(ctx, in, v.ValueFrom)
		}
		if err != nil {
			return nil, err
		}
		if !skip {
			e.set(v.Name, value)
		}
	}
	for _, name := range services.names {
		if _, ok := e.lookup(name); !ok {
			e.set(name, services.values[name])
		}
	}
	return e, nil
}

// serviceVariables are the variables of the Services a Pod sees. A static Pod does not wait for an API
// server that may not be there: it gets those that are known.
func (b *Builder) serviceVariables(ctx context.Context, pod *v1.Pod) (*environment, error) {
	e := &environment{values: map[string]string{}}
	if b.cfg.Objects == nil {
		return e, nil
	}
	static := podutil.IsStatic(pod)
	if static {
		done, cancel := context.WithCancel(ctx)
		cancel()
		ctx = done
	}
	services, err := b.cfg.Objects.Services(ctx, pod.Namespace, *pod.Spec.EnableServiceLinks)
	if err != nil && !static {
		return nil, fmt.Errorf("services have not yet been read at least once, cannot construct envvars")
	}
	addServices(e, services, pod.Namespace, *pod.Spec.EnableServiceLinks)
	return e, nil
}

func (b *Builder) envFrom(ctx context.Context, e *environment, pod *v1.Pod, from v1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		cm, err := b.configMap(ctx, pod, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
		if cm == nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(cm.Data)) {
			e.set(from.Prefix+key, cm.Data[key])
		}
	case from.SecretRef != nil:
		secret, err := b.secret(ctx, pod, from.SecretRef.Name, from.SecretRef.Optional)
		if secret == nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(secret.Data)) {
			e.set(from.Prefix+key, string(secret.Data[key]))
		}
	}
	return nil
}

// configMap returns nil and no error for one that is optional and not there.
func (b *Builder) configMap(ctx context.Context, pod *v1.Pod, name string, optional *bool) (*v1.ConfigMap, error) {
	if b.cfg.Objects == nil {
		return nil, fmt.Errorf("couldn't get configMap %v/%v, no kubeClient defined", pod.Namespace, name)
	}
	cm, err := b.cfg.Objects.ConfigMap(ctx, pod, name)
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	return cm, nil
}

// secret answers as configMap does.
func (b *Builder) secret(ctx context.Context, pod *v1.Pod, name string, optional *bool) (*v1.Secret, error) {
	if b.cfg.Objects == nil {
		return nil, fmt.Errorf("couldn't get secret %v/%v, no kubeClient defined", pod.Namespace, name)
	}
	secret, err := b.cfg.Objects.Secret(ctx, pod, name)
	if err != nil {
		return nil, unlessOptional(err, optional)
	}
	return secret, nil
}

func unlessOptional(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// valueFrom returns the value of a source; skip is true for one that is optional and not there.
func (b *Builder) valueFrom(ctx context.Context, in Input, from *v1.EnvVarSource) (value string, skip bool, err error) {
	pod, namespace := in.Pod, in.Pod.Namespace
	switch {
	case from.FieldRef != nil:
		value, err = downward.Field(from.FieldRef, in.Pod, downward.Addresses{HostIPs: b.hostIPs(), PodIPs: in.PodIPs})
		return value, false, err
	case from.ResourceFieldRef != nil:
		value, err = downward.Resource(from.ResourceFieldRef, in.Pod, in.Container, b.allocatable())
		return value, false, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := b.configMap(ctx, pod, ref.Name, ref.Optional)
		if cm == nil {
			return "", true, err
		}
		value, ok := cm.Data[ref.Key]
		return keyValue(value, ok, ref.Optional, ref.Key, "ConfigMap", namespace, ref.Name)
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := b.secret(ctx, pod, ref.Name, ref.Optional)
		if secret == nil {
			return "", true, err
		}
		value, ok := secret.Data[ref.Key]
		return keyValue(string(value), ok, ref.Optional, ref.Key, "Secret", namespace, ref.Name)
	case from.FileKeyRef != nil:
		return b.fileValue(in.Pod, from.FileKeyRef)
	}
	return "", false, nil
}

func keyValue(value string, ok bool, optional *bool, key, kind, namespace, name string) (string, bool, error) {
	switch {
	case ok:
		return value, false, nil
	case optional != nil && *optional:
		return "", true, nil
	}
	return "", true, fmt.Errorf("couldn't find key %v in %s %v/%v", key, kind, namespace, name)
}

func (b *Builder) fileValue(pod *v1.Pod, ref *v1.FileKeySelector) (string, bool, error) {
	path, err := b.hostPath(pod, ref.VolumeName)
	if err != nil {
		return "", true, fmt.Errorf("cannot find the volume %q referenced by FileKeyRef", ref.VolumeName)
	}
	value, err := envFileValue(path, ref.Path, ref.Key)
	if err != nil {
		// What is wrong with the file may tell of the host: it is not for the Pod's status.
		return "", true, fmt.Errorf("couldn't parse env file")
	}
	if value != "" {
		return value, false, nil
	}
	if ref.Optional != nil && *ref.Optional {
		return "", true, nil
	}
	return "", true, fmt.Errorf("environment variable key %q not found in file %q", ref.Key, ref.Path)
}

func (b *Builder) hostPath(pod *v1.Pod, volume string) (string, error) {
	if b.cfg.Volumes == nil {
		return "", fmt.Errorf("no volumes")
	}
	return b.cfg.Volumes.HostPath(pod, volume)
}

func (b *Builder) allocatable() v1.ResourceList {
	if b.cfg.Allocatable == nil {
		return nil
	}
	return b.cfg.Allocatable()
}
