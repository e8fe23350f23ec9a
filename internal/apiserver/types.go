package apiserver

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"podium.dev/podium/internal/openapi"
)

// extensionGVK is where a schema says which kinds it describes.
const extensionGVK = "x-kubernetes-group-version-kind"

// typeConverter gives managed fields and server-side apply the structure of each kind, which it takes from
// the OpenAPI definitions when an object of the kind is first written.
type typeConverter struct {
	scheme *runtime.Scheme

	mu     sync.RWMutex
	byKind map[schema.GroupVersionKind]managedfields.TypeConverter
	back   managedfields.TypeConverter // the way back is the same for all
}

func newTypeConverter(scheme *runtime.Scheme) *typeConverter {
	return &typeConverter{
		scheme: scheme,
		byKind: map[schema.GroupVersionKind]managedfields.TypeConverter{},
		back:   managedfields.NewDeducedTypeConverter(),
	}
}

// ObjectToTyped implements managedfields.TypeConverter.
func (c *typeConverter) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	converter, err := c.converter(obj.GetObjectKind().GroupVersionKind())
	if err != nil {
		return nil, err
	}
	return converter.ObjectToTyped(obj, opts...)
}

// TypedToObject implements managedfields.TypeConverter.
func (c *typeConverter) TypedToObject(value *typed.TypedValue) (runtime.Object, error) {
	return c.back.TypedToObject(value)
}

func (c *typeConverter) converter(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	c.mu.RLock()
	converter := c.byKind[gvk]
	c.mu.RUnlock()
	if converter != nil {
		return converter, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if converter := c.byKind[gvk]; converter != nil {
		return converter, nil
	}
	model, err := c.scheme.ToOpenAPIDefinitionName(gvk)
	if err != nil {
		return nil, fmt.Errorf("find the OpenAPI model of %s: %w", gvk, err)
	}
	schemas, err := openapi.Schemas(model, spec.Extensions{extensionGVK: []any{map[string]any{
		"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind,
	}}})
	if err != nil {
		return nil, err
	}
	if converter, err = managedfields.NewTypeConverter(schemas, false); err != nil {
		return nil, fmt.Errorf("read the structure of %s: %w", gvk, err)
	}
	c.byKind[gvk] = converter
	return converter, nil
}
