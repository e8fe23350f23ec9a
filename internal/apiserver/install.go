package apiserver

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	genericapi "k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"

	"podium.dev/podium/internal/registry/kit"
)

// versionPriority is the priority of every version within its group: the names decide, so v2 comes before v1 and
// v1 before v1beta1.
const versionPriority = 15

// served is what the server serves: each group version's stores by their path ("pods", "pods/status").
type served map[schema.GroupVersion]map[string]rest.Storage

func (s served) add(gv schema.GroupVersion, path string, store rest.Storage) error {
	if s[gv] == nil {
		s[gv] = map[string]rest.Storage{}
	}
	if _, ok := s[gv][path]; ok {
		return fmt.Errorf("%s %s is served twice", gv, path)
	}
	s[gv][path] = store
	return nil
}

// order returns the group versions in the order of discovery: groups by priority, and within a group the preferred
// version first.
func (s served) order(priority map[string]int) []schema.GroupVersion {
	var all []schema.GroupVersion
	for gv := range s {
		all = append(all, gv)
	}
	slices.SortFunc(all, func(a, b schema.GroupVersion) int {
		return cmp.Or(
			priority[b.Group]-priority[a.Group],
			strings.Compare(a.Group, b.Group),
			version.CompareKubeAwareVersionStrings(b.Version, a.Version),
		)
	})
	return all
}

// install serves all that is in s. It does what the generic server's InstallAPIGroups does, but for the
// OpenAPI models, which that one builds for every kind at start; here they are built for a kind when an
// object of it is first written.
func (s *Server) install(all served, groups []kit.Group) error {
	priority := map[string]int{}
	for _, g := range groups {
		priority[g.Name] = g.Priority
	}
	order := all.order(priority)
	for _, gv := range order {
		resources, err := s.installVersion(gv, all[gv])
		if err != nil {
			return fmt.Errorf("serve %s: %w", gv, err)
		}
		discovered := apidiscoveryv2.APIVersionDiscovery{
			Freshness: apidiscoveryv2.DiscoveryFreshnessCurrent,
			Version:   gv.Version,
			Resources: resources,
		}
		if gv.Group == "" {
			s.generic.AggregatedLegacyDiscoveryGroupManager.AddGroupVersion(gv.Group, discovered)
			continue
		}
		s.generic.AggregatedDiscoveryGroupManager.AddGroupVersion(gv.Group, discovered)
		s.generic.AggregatedDiscoveryGroupManager.SetGroupVersionPriority(metav1.GroupVersion(gv), priority[gv.Group], versionPriority)
	}
	for _, group := range groupsOf(order) {
		s.generic.DiscoveryGroupManager.AddGroup(group)
		s.generic.Handler.GoRestfulContainer.Add(discovery.NewAPIGroupHandler(s.codecs, group).WebService())
	}
	legacy := discovery.NewLegacyRootAPIHandler(s.config.DiscoveryAddresses, s.codecs, genericapiserver.DefaultLegacyAPIPrefix)
	wrapped := aggregated.WrapAggregatedDiscoveryToHandler(legacy, s.generic.AggregatedLegacyDiscoveryGroupManager, s.generic.AggregatedLegacyDiscoveryGroupManager)
	s.generic.Handler.GoRestfulContainer.Add(wrapped.GenerateWebService(genericapiserver.DefaultLegacyAPIPrefix, metav1.APIVersions{}))
	return nil
}

// groupsOf returns the named groups of group versions that are in the order of discovery.
func groupsOf(order []schema.GroupVersion) []metav1.APIGroup {
	var groups []metav1.APIGroup
	for _, gv := range order {
		v := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
		last := len(groups) - 1
		switch {
		case gv.Group == "": // it has no group document
		case last >= 0 && groups[last].Name == gv.Group:
			groups[last].Versions = append(groups[last].Versions, v)
		default:
			groups = append(groups, metav1.APIGroup{
				Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
			})
		}
	}
	return groups
}

func (s *Server) installVersion(gv schema.GroupVersion, stores map[string]rest.Storage) ([]apidiscoveryv2.APIResourceDiscovery, error) {
	root := genericapiserver.APIGroupPrefix
	if gv.Group == "" {
		root = genericapiserver.DefaultLegacyAPIPrefix
	}
	versions := map[string][]string{}
	for resource := range stores {
		versions[resource] = []string{gv.String()}
	}
	install := &genericapi.APIGroupVersion{
		Root:                        path.Clean(root),
		GroupVersion:                gv,
		OptionsExternalVersion:      &schema.GroupVersion{Version: "v1"},
		Storage:                     stores,
		AllServedVersionsByResource: versions,

		ParameterCodec:        s.parameters,
		Serializer:            boundedSerializer{s.codecs},
		Creater:               s.scheme,
		Convertor:             s.scheme,
		ConvertabilityChecker: s.scheme,
		UnsafeConvertor:       runtime.UnsafeObjectConvertor(s.scheme),
		Defaulter:             s.scheme,
		Typer:                 s.scheme,
		Namer:                 runtime.Namer(meta.NewAccessor()),
		TypeConverter:         s.types,

		EquivalentResourceRegistry: s.generic.EquivalentResourceRegistry,
		Admit:                      s.config.AdmissionControl,
		Authorizer:                 s.config.Authorization.Authorizer,
		MinRequestTimeout:          minWatch,
		MaxRequestBodyBytes:        s.config.MaxRequestBodyBytes,
	}
	resources, _, err := install.InstallREST(s.generic.Handler.GoRestfulContainer)
	return resources, err
}
