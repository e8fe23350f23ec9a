package apiserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiopenapi "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/kube-openapi/pkg/builder"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"podium.dev/podium/internal/openapi"
)

// openAPISpec builds OpenAPI documents from the routes that are served.
type openAPISpec struct{ scheme *runtime.Scheme }

// bearerToken is how the documents say that clients show who they are.
const bearerToken = "BearerToken"

func (o openAPISpec) v2(services []*restful.WebService) ([]byte, error) {
	config := &common.Config{
		ProtocolList:          []string{"https"},
		Info:                  &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: GitVersion}},
		DefaultResponse:       &spec.Response{ResponseProps: spec.ResponseProps{Description: "Default Response."}},
		CommonResponses:       map[int]spec.Response{401: {ResponseProps: spec.ResponseProps{Description: "Unauthorized"}}},
		GetOperationIDAndTags: apiopenapi.GetOperationIDAndTags,
		GetDefinitions:        openapi.Definitions,
		GetDefinitionName:     o.namer(nil),
		DefaultSecurity:       []map[string][]string{{bearerToken: {}}},
		SecurityDefinitions: &spec.SecurityDefinitions{bearerToken: &spec.SecurityScheme{SecuritySchemeProps: spec.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
	}
	swagger, err := builder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(services), config)
	if err != nil {
		return nil, fmt.Errorf("build the OpenAPI v2 document: %w", err)
	}
	swagger.Definitions = handler.PruneDefaults(swagger.Definitions)
	return swagger.MarshalJSON()
}

func (o openAPISpec) v3(service *restful.WebService) ([]byte, error) {
	config := &common.OpenAPIV3Config{
		Info:                  &spec.Info{InfoProps: spec.InfoProps{Title: "Kubernetes", Version: GitVersion}},
		DefaultResponse:       &spec3.Response{ResponseProps: spec3.ResponseProps{Description: "Default Response."}},
		CommonResponses:       map[int]*spec3.Response{401: {ResponseProps: spec3.ResponseProps{Description: "Unauthorized"}}},
		GetOperationIDAndTags: apiopenapi.GetOperationIDAndTags,
		GetDefinitions:        openapi.Definitions,
		GetDefinitionName:     o.namer(groupVersionOf(service.RootPath())),
		DefaultSecurity:       []map[string][]string{{bearerToken: {}}},
		SecuritySchemes: spec3.SecuritySchemes{bearerToken: &spec3.SecurityScheme{SecuritySchemeProps: spec3.SecuritySchemeProps{
			Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
		}}},
	}
	document, err := builder3.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices([]*restful.WebService{service}), config)
	if err != nil {
		return nil, fmt.Errorf("build the OpenAPI v3 document of %s: %w", service.RootPath(), err)
	}
	return json.Marshal(document)
}

// groupVersionOf is the group version of a root path, "/api/v1" or "/apis/GROUP/VERSION", or nil.
func groupVersionOf(root string) *schema.GroupVersion {
	switch p := strings.Split(strings.Trim(root, "/"), "/"); {
	case len(p) == 2 && p[0] == "api":
		return &schema.GroupVersion{Version: p[1]}
	case len(p) == 3 && p[0] == "apis":
		return &schema.GroupVersion{Group: p[1], Version: p[2]}
	}
	return nil
}

// namer returns what adds to each model the kinds that it is. The kinds that every group has
// (WatchEvent, DeleteOptions) are named only for the group version of the document, when it is of one.
func (o openAPISpec) namer(only *schema.GroupVersion) func(string) (string, spec.Extensions) {
	kinds := map[string][]schema.GroupVersionKind{}
	for gvk := range o.scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal {
			continue
		}
		everywhere := gvk.Kind == "WatchEvent" || gvk.Kind == "DeleteOptions"
		if everywhere && only != nil && gvk.GroupVersion() != *only && gvk.GroupVersion() != (schema.GroupVersion{Version: "v1"}) {
			continue
		}
		if model, err := o.scheme.ToOpenAPIDefinitionName(gvk); err == nil {
			kinds[model] = append(kinds[model], gvk)
		}
	}
	return func(model string) (string, spec.Extensions) {
		of := kinds[model]
		if len(of) == 0 {
			return model, nil
		}
		slices.SortFunc(of, func(a, b schema.GroupVersionKind) int {
			return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Version, b.Version), strings.Compare(a.Kind, b.Kind))
		})
		var list []any
		for _, k := range of {
			list = append(list, map[string]any{"group": k.Group, "version": k.Version, "kind": k.Kind})
		}
		return model, spec.Extensions{extensionGVK: list}
	}
}
