// Package config reads a scheduler's settings from a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1).
package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	configv1 "k8s.io/kube-scheduler/config/v1"

	"podium.dev/podium/internal/scheduler"
	"podium.dev/podium/internal/scheduler/profile"
)

// absent are plugins of Kubernetes that have nothing to decide in Podium. A configuration may disable them but
// need not.
var absent = []string{"DynamicResources", "GangScheduling", "DeferredPodScheduling"}

// Read reads a configuration in YAML or JSON. Unknown fields and settings that are not supported are errors;
// the error names the field.
func Read(data []byte) (scheduler.Options, error) {
	var out scheduler.Options
	in, err := decode(data)
	if err != nil {
		return out, fmt.Errorf("read the scheduler's configuration: %w", err)
	}
	if len(in.Extenders) > 0 {
		return out, errors.New("extenders: scheduler extenders are not supported; remove the field")
	}
	if in.PercentageOfNodesToScore != nil {
		out.PercentageOfNodesToScore = int(*in.PercentageOfNodesToScore)
	}
	if err := percentage(out.PercentageOfNodesToScore); err != nil {
		return out, err
	}
	if in.PodInitialBackoffSeconds != nil {
		out.InitialBackoff = time.Duration(*in.PodInitialBackoffSeconds) * time.Second
	}
	if in.PodMaxBackoffSeconds != nil {
		out.MaxBackoff = time.Duration(*in.PodMaxBackoffSeconds) * time.Second
	}
	if out.MaxBackoff != 0 && out.MaxBackoff < out.InitialBackoff {
		return out, fmt.Errorf("podMaxBackoffSeconds: must be at least podInitialBackoffSeconds (%v)", out.InitialBackoff)
	}
	for i := range in.Profiles {
		p, err := readProfile(&in.Profiles[i])
		if err != nil {
			return out, fmt.Errorf("profiles[%d].%w", i, err)
		}
		out.Profiles = append(out.Profiles, p)
	}
	return out, nil
}

func percentage(n int) error {
	if n < 0 || n > 100 {
		return fmt.Errorf("percentageOfNodesToScore: %d is not in the range 0 to 100", n)
	}
	return nil
}

func decode(data []byte) (*configv1.KubeSchedulerConfiguration, error) {
	scheme := runtime.NewScheme()
	if err := configv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	object, _, err := decoder.Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	in, ok := object.(*configv1.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("the object is a %T, want a KubeSchedulerConfiguration", object)
	}
	return in, in.DecodeNestedObjects(decoder)
}

func readProfile(in *configv1.KubeSchedulerProfile) (scheduler.ProfileOptions, error) {
	var out scheduler.ProfileOptions
	if in.SchedulerName != nil {
		out.SchedulerName = *in.SchedulerName
	}
	if in.PercentageOfNodesToScore != nil {
		n := int(*in.PercentageOfNodesToScore)
		if err := percentage(n); err != nil {
			return out, err
		}
		out.PercentageOfNodesToScore = &n
	}
	out.Plugins = scheduler.DefaultPlugins()
	if in.Plugins != nil {
		var err error
		if out.Plugins, err = merge(out.Plugins, in.Plugins); err != nil {
			return out, fmt.Errorf("plugins.%w", err)
		}
	}
	for i, c := range in.PluginConfig {
		at := slices.IndexFunc(out.Plugins, func(p scheduler.PluginOptions) bool { return p.Name == c.Name })
		switch {
		case at >= 0:
			out.Plugins[at].Args = c.Args.Object
		case !slices.Contains(absent, c.Name):
			return out, fmt.Errorf("pluginConfig[%d].name: plugin %q is not enabled", i, c.Name)
		}
	}
	return out, nil
}

// pointSet is the part of a configuration that is about one extension point.
type pointSet struct {
	name  string
	point profile.Point // 0: no plugin can be turned on or off at this point
	set   *configv1.PluginSet
}

// merge merges a configuration's plugins into the default ones: first those of multiPoint, then those of single
// points.
func merge(all []scheduler.PluginOptions, in *configv1.Plugins) ([]scheduler.PluginOptions, error) {
	var err error
	if all, err = mergeAll(all, &in.MultiPoint); err != nil {
		return nil, fmt.Errorf("multiPoint.%w", err)
	}
	for _, p := range []pointSet{
		{"preEnqueue", profile.PreEnqueue, &in.PreEnqueue}, {"queueSort", profile.QueueSort, &in.QueueSort},
		{"preFilter", profile.PreFilter, &in.PreFilter}, {"filter", profile.Filter, &in.Filter},
		{"postFilter", profile.PostFilter, &in.PostFilter}, {"preScore", profile.PreScore, &in.PreScore},
		{"score", profile.Score, &in.Score}, {"reserve", profile.Reserve, &in.Reserve}, {"bind", profile.Bind, &in.Bind},
		{"permit", 0, &in.Permit}, {"preBind", 0, &in.PreBind}, {"postBind", 0, &in.PostBind},
	} {
		if all, err = mergePoint(all, p); err != nil {
			return nil, fmt.Errorf("%s.%w", p.name, err)
		}
	}
	return all, nil
}

func disables(set *configv1.PluginSet, name string) bool {
	return slices.ContainsFunc(set.Disabled, func(d configv1.Plugin) bool { return d.Name == "*" || d.Name == name })
}

func mergeAll(all []scheduler.PluginOptions, set *configv1.PluginSet) ([]scheduler.PluginOptions, error) {
	all = slices.DeleteFunc(all, func(p scheduler.PluginOptions) bool { return disables(set, p.Name) })
	for i, e := range set.Enabled {
		option, err := enabled(e)
		if err != nil {
			return nil, fmt.Errorf("enabled[%d]: %w", i, err)
		}
		if at := slices.IndexFunc(all, func(p scheduler.PluginOptions) bool { return p.Name == e.Name }); at >= 0 {
			all[at] = option
		} else {
			all = append(all, option)
		}
	}
	return all, nil
}

func mergePoint(all []scheduler.PluginOptions, p pointSet) ([]scheduler.PluginOptions, error) {
	for i := range all {
		if disables(p.set, all[i].Name) {
			all[i].Without |= p.point
		}
	}
	for i, e := range p.set.Enabled {
		option, err := enabled(e)
		if err != nil {
			return nil, fmt.Errorf("enabled[%d]: %w", i, err)
		}
		at := slices.IndexFunc(all, func(o scheduler.PluginOptions) bool { return o.Name == e.Name })
		if at < 0 {
			option.Without = profile.Everywhere &^ p.point
			all = append(all, option)
			continue
		}
		all[at].Without &^= p.point
		if e.Weight != nil || all[at].Weight == 0 {
			all[at].Weight = option.Weight
		}
	}
	return all, nil
}

// enabled reads a plugin that a configuration enables. Its weight is 1 if none is given.
func enabled(e configv1.Plugin) (scheduler.PluginOptions, error) {
	if slices.Contains(absent, e.Name) {
		return scheduler.PluginOptions{}, fmt.Errorf("plugin %q cannot be enabled: Podium has nothing for it to decide; remove it", e.Name)
	}
	known := slices.ContainsFunc(scheduler.DefaultPlugins(), func(p scheduler.PluginOptions) bool { return p.Name == e.Name })
	if !known {
		return scheduler.PluginOptions{}, fmt.Errorf("unknown scheduler plugin %q", e.Name)
	}
	out := scheduler.PluginOptions{Name: e.Name, Weight: 1}
	if e.Weight != nil {
		if *e.Weight < 0 {
			return out, fmt.Errorf("weight %d of plugin %q is negative", *e.Weight, e.Name)
		}
		if *e.Weight > 0 {
			out.Weight = int64(*e.Weight)
		}
	}
	return out, nil
}
