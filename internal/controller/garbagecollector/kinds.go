package garbagecollector

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// kind is a resource that the server serves.
type kind struct {
	gvr        schema.GroupVersionResource
	gvk        schema.GroupVersionKind
	namespaced bool
}

// Events are never owned and too many to watch.
var ignored = map[schema.GroupResource]bool{
	{Resource: "events"}: true, {Group: "events.k8s.io", Resource: "events"}: true,
}

// kinds is the result of the last discovery.
type kinds struct {
	discovery discovery.DiscoveryInterface

	mu   sync.RWMutex
	byID map[schema.GroupVersionKind]*kind
}

// refresh discovers what the server serves and returns the kinds to watch: each once, in its group's preferred
// version, if its objects can be listed, watched and deleted. Groups that do not respond are left out and named
// in the error; the result then holds the others.
func (k *kinds) refresh() ([]*kind, error) {
	groups, lists, err := k.discovery.ServerGroupsAndResources()
	if lists == nil {
		return nil, fmt.Errorf("discover the served kinds: %w", err)
	}
	preferred := map[string]string{}
	for _, g := range groups {
		preferred[g.Name] = g.PreferredVersion.Version
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	byID := map[schema.GroupVersionKind]*kind{}
	watch := map[schema.GroupResource]*kind{}
	for _, list := range lists {
		gv, parseErr := schema.ParseGroupVersion(list.GroupVersion)
		if parseErr != nil {
			continue
		}
		for _, r := range list.APIResources {
			one := k.known(gv, r)
			if one == nil {
				continue
			}
			byID[one.gvk] = one
			gr := one.gvr.GroupResource()
			if watchable(r) && !ignored[gr] && (watch[gr] == nil || gv.Version == preferred[gv.Group]) {
				watch[gr] = one
			}
		}
	}
	if err != nil {
		for gvk, one := range k.byID { // groups that did not respond keep their last result
			if byID[gvk] == nil {
				byID[gvk] = one
			}
		}
	}
	k.byID = byID
	out := make([]*kind, 0, len(watch))
	for _, one := range watch {
		out = append(out, one)
	}
	if err != nil {
		err = fmt.Errorf("discover the served kinds: %w", err)
	}
	return out, err
}

// known returns the kind of a resource, as the same pointer as before if it was already known. It returns nil
// for a subresource.
func (k *kinds) known(gv schema.GroupVersion, r metav1.APIResource) *kind {
	if slices.Contains([]byte(r.Name), '/') {
		return nil
	}
	one := kind{gvr: gv.WithResource(r.Name), gvk: gv.WithKind(r.Kind), namespaced: r.Namespaced}
	if have := k.byID[one.gvk]; have != nil && *have == one {
		return have
	}
	return &one
}

func watchable(r metav1.APIResource) bool {
	for _, verb := range []string{"delete", "list", "watch"} {
		if !slices.Contains(r.Verbs, verb) {
			return false
		}
	}
	return true
}

// of returns the kind that an owner reference names. A NoMatch error means that the server has no such kind.
func (k *kinds) of(ref metav1.OwnerReference) (*kind, error) {
	gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
	k.mu.RLock()
	defer k.mu.RUnlock()
	if one := k.byID[gvk]; one != nil {
		return one, nil
	}
	return nil, &meta.NoKindMatchError{GroupKind: gvk.GroupKind(), SearchedVersions: []string{gvk.Version}}
}

// discover starts and stops watches to match what the server serves now.
func (c *Collector) discover(ctx context.Context) error {
	found, err := c.kinds.refresh()
	if found == nil {
		return err
	}
	c.watch(ctx, found, err != nil)
	return err
}
