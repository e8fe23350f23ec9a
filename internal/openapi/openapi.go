// Package openapi holds the OpenAPI definitions of the served types: what kubectl explain prints, and by what
// the API server merges and applies objects. They are large, so each is made only when it is wanted.
package openapi

//go:generate go run ../../hack/openapi-gen

import (
	"fmt"
	"maps"
	"sync"

	"k8s.io/kube-openapi/pkg/builder3/util"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

type definition = func(common.ReferenceCallback) common.OpenAPIDefinition

var byName = sync.OnceValue(definitions)

// Definitions returns the definitions of all types, by their model names. It implements
// common.GetOpenAPIDefinitions.
func Definitions(ref common.ReferenceCallback) map[string]common.OpenAPIDefinition {
	all := make(map[string]common.OpenAPIDefinition, len(byName()))
	for name, define := range byName() {
		all[name] = define(ref)
	}
	return all
}

// Schemas returns the OpenAPI v3 schemas of a model and of all that it refers to, by their names.
// Extensions are added to the model's own.
func Schemas(model string, extensions spec.Extensions) (map[string]*spec.Schema, error) {
	ref := func(name string) spec.Ref {
		return spec.MustCreateRef("#/components/schemas/" + common.EscapeJsonPointer(name))
	}
	all := map[string]*spec.Schema{}
	todo := []string{model}
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, done := all[name]; done {
			continue
		}
		define, ok := byName()[name]
		if !ok {
			return nil, fmt.Errorf("there is no OpenAPI definition of %s", name)
		}
		d := define(ref)
		delete(d.Schema.Extensions, common.ExtensionV2Schema)
		if name == model && len(extensions) > 0 {
			if d.Schema.Extensions == nil {
				d.Schema.Extensions = spec.Extensions{}
			}
			maps.Copy(d.Schema.Extensions, extensions)
		}
		all[name] = util.WrapRefs(&d.Schema)
		todo = append(todo, d.Dependencies...)
	}
	return all, nil
}
