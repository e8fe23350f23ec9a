// Package kit defines the common pattern by which Podium serves a kind.
//
// A kind has a package below this one (pod/, node/, configmap/, …) that describes it in a Definition: its
// names, defaults, validation, what clients may not change, and its table columns. Define converts the
// description into a Kind, and the API server serves every Kind it is given. This package knows no particular
// kind.
//
// Every kind is stored and handled as one Go type: the versioned type of k8s.io/api is also registered as the
// internal version, so a kind with one version needs no conversion code. A kind with several versions, or in
// several groups, names the other ones in Definition.Also and converts them to and from that type.
package kit

import (
	"context"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/registry/generic"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// Object is implemented by every served kind.
type Object interface {
	runtime.Object
	metav1.Object
}

// Definition describes a kind with the Go type T, a pointer to a k8s.io/api struct. Zero fields mean that the
// kind does not need them; only the names, New and NewList are required.
type Definition[T Object] struct {
	GVK        schema.GroupVersionKind
	Resource   string   // plural, lower case: "pods"
	Singular   string   // "pod"
	ShortNames []string // "po"
	Categories []string // "all"
	Namespaced bool

	New     func() T
	NewList func() runtime.Object

	// Default sets the defaults of fields that the client left out. It runs on every decode, also of stored
	// objects, so it must be idempotent.
	Default func(T)

	// Prepare runs before the validation of a create. It clears what a client may not set (status) and sets
	// what the server owns (generation).
	Prepare func(ctx context.Context, obj T)
	// Validate returns all errors in a new object, including its metadata.
	Validate func(ctx context.Context, obj T) field.ErrorList
	// PrepareUpdate runs before the validation of an update of the main resource. It keeps the old status and
	// increments the generation if the spec changed.
	PrepareUpdate func(ctx context.Context, obj, old T)
	// ValidateUpdate returns all errors in an update, including changes of immutable fields.
	ValidateUpdate func(ctx context.Context, obj, old T) field.ErrorList
	// Warn returns the warnings of a create, for which old is the zero T, or of an update.
	Warn func(ctx context.Context, obj, old T) []string
	// Canonicalize brings a validated object into the form that is stored.
	Canonicalize func(T)

	// AllowCreateOnUpdate allows a PUT to create an object that does not exist.
	AllowCreateOnUpdate bool
	// DenyUnconditionalUpdate requires a resourceVersion in every PUT.
	DenyUnconditionalUpdate bool

	// ResetFields are the field paths that server-side apply ignores on the main resource. Nil means {"status"}
	// if the kind has a status.
	ResetFields [][]string
	// Status describes the /status subresource. It is nil if the kind has none.
	Status *SubresourceRules[T]

	// GracefulDelete reports whether a delete only marks the object with a deletionTimestamp at first. It may
	// set the grace period in options. Nil means that deletes are immediate.
	GracefulDelete func(ctx context.Context, obj T, options *metav1.DeleteOptions) bool
	// ReturnDeleted makes a delete return the object instead of a Status.
	ReturnDeleted bool
	// OrphanByDefault keeps dependents if a delete has no propagation policy.
	OrphanByDefault bool

	// Selectable returns the fields that a fieldSelector may name, besides metadata.name and
	// metadata.namespace, which are always selectable. The keys must be the same for every object.
	Selectable func(T) fields.Set

	// Table describes the server-side table. Nil means the columns NAME and CREATED AT.
	Table *Table[T]

	// FieldAliases are further names of selectable fields, such as "spec.host" for a Pod's "spec.nodeName".
	FieldAliases map[string]string
	// UnknownField returns the error for a field that cannot be selected. Nil means the usual one.
	UnknownField func(label string) error
	// StorePath is the kind's path in etcd if it is not the name of the resource. It is that of Kubernetes.
	StorePath string

	// TTLSeconds, if not nil, returns the lifetime of a stored object in seconds; 0 means forever.
	TTLSeconds func(obj T, existing uint64, update bool) (uint64, error)

	// Connect adds further subresources, by their path below the resource: "binding", "log", "token".
	Connect func(Env) (map[string]rest.Storage, error)
	// Beside adds resources of the kind's group version that store nothing, such as "bindings" with the kind
	// Pod.
	Beside func(Env) map[string]rest.Storage
	// Configure can change the main store, for hooks without a field above (BeginCreate, AfterDelete, …).
	// Prefer a field above.
	Configure func(Env) error
	// Also are the other versions or API groups that serve the same stored objects in another form.
	Also []Alias
	// WatchField names one of the Selectable fields, such as "spec.nodeName", that many watches select by.
	// Events are then dispatched only to the watches that select the object's value of it.
	WatchField string
	// Wrap wraps the main resource's verbs with rules of the kind: namespaces are deleted in two steps and have
	// no deletecollection. main serves every verb; the result is served instead.
	Wrap func(env Env, main Main) rest.Storage
}

// SubresourceRules describes a subresource that updates part of the stored object through the same store, such
// as status.
type SubresourceRules[T Object] struct {
	PrepareUpdate  func(ctx context.Context, obj, old T)
	ValidateUpdate func(ctx context.Context, obj, old T) field.ErrorList
	Warn           func(ctx context.Context, obj, old T) []string
	// ResetFields are the field paths that server-side apply ignores on this subresource, such as {"spec"} or
	// {"metadata","ownerReferences"}. Nil means {"spec"}.
	ResetFields [][]string
}

// Alias is another form of a kind: another version in the same group, as autoscaling/v1 is of autoscaling/v2, or
// the same data in another group, as events.k8s.io/v1 is of core/v1. The kind's own stores serve its requests;
// objects are converted on the way in and out.
type Alias struct {
	GVK     schema.GroupVersionKind
	New     func() runtime.Object
	NewList func() runtime.Object
	// Default sets the defaults of the alias's own type. It may be nil.
	Default func(runtime.Object)
	// Convert and Revert convert an object of the kind's Go type into one of the alias's type, and back. They
	// must not change the input but may share its parts. Lists are converted item by item.
	Convert, Revert func(in, out runtime.Object) error
	// FieldLabel returns the kind's name of a field that a fieldSelector names, or an error if there is none.
	// Nil means that the names are the same.
	FieldLabel func(label, value string) (string, string, error)
}

// Conversion adapts a conversion between two Go types to Alias.Convert and Alias.Revert.
func Conversion[In, Out any](convert func(In, Out) error) func(in, out runtime.Object) error {
	return func(in, out runtime.Object) error {
		from, ok := in.(In)
		to, fits := out.(Out)
		if !ok || !fits {
			return fmt.Errorf("cannot convert a %T to a %T", in, out)
		}
		return convert(from, to)
	}
}

// Table describes how a kind is printed.
type Table[T Object] struct {
	Columns []metav1.TableColumnDefinition
	// Row returns one cell per column, and the conditions of the row (such as Completed).
	Row func(obj T) (cells []any, conditions []metav1.TableRowCondition)
	// InList, if not nil, may change the rows of a list, for cells that depend on other objects. The rows'
	// objects have type T.
	InList func(rows []metav1.TableRow)
}

// Env is what a kind's own subresources may use.
type Env struct {
	// Store is the kind's main store.
	Store *genericregistry.Store
	// Options are the options of stores, for a kind that stores something besides its objects.
	Options generic.RESTOptionsGetter
	// Lookup returns the main store of another served kind, or nil. It may be called only while a request is
	// handled, not while the kinds are being installed.
	Lookup func(schema.GroupResource) *genericregistry.Store
	// ServiceRange is the range of the Services' cluster IPs. Its first address is that of the Service kubernetes.
	ServiceRange netip.Prefix
	// Nodes connects to the servers of the node agents.
	Nodes NodeConnector
	// Tokens issues service-account tokens.
	Tokens TokenIssuer
	// Authorizer decides what a user may do, for subresources that require more than the request's own verb.
	Authorizer authorizer.UnconditionalAuthorizer
}
