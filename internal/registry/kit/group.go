package kit

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group describes an API group: its types, its place in discovery and the kinds that it serves.
type Group struct {
	// Name is "" for the core group.
	Name string
	// Priority is the group's place in discovery, the highest first. The numbers are those of kube-apiserver.
	Priority int
	// Versions are the versions whose types the server knows. A version is served if a kind of it is.
	Versions []Version
	Kinds    []Kind
}

// Version is a version of a group, with the function of k8s.io/api that registers its types.
type Version struct {
	schema.GroupVersion
	AddToScheme func(*runtime.Scheme) error
}
