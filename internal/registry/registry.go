// Package registry holds the one pattern by which Podium serves a kind.
//
// A kind lives in a folder of its own below this one (pod/, node/, configmap/, …) and is described there by
// one Definition: its names, defaults, validation, what clients may not change, and its table columns.
// Define turns that description into a Kind, and the API server serves every Kind it is given. Nothing here
// knows any particular kind.
//
// Every kind has exactly one Go type: the versioned type of k8s.io/api is also registered as the internal
// version, so there is no conversion code.
package registry

import (
	"context"

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

// Object is what every served kind is.
type Object interface {
	runtime.Object
	metav1.Object
}

// Definition describes a kind whose Go type is T, a pointer to a k8s.io/api struct. Fields that are nil or
// zero mean "nothing special"; only the names, New and NewList are required.
type Definition[T Object] struct {
	GVK        schema.GroupVersionKind
	Resource   string   // plural, lower case: "pods"
	Singular   string   // "pod"
	ShortNames []string // "po"
	Categories []string // "all"
	Namespaced bool

	New     func() T
	NewList func() runtime.Object

	// Default fills what the user left out. It runs on every decode, of stored objects too, so it must be
	// idempotent.
	Default func(T)

	// Prepare runs before the validation of a create: clear what a client may not set (status), set what
	// the server owns (generation).
	Prepare func(ctx context.Context, obj T)
	// Validate answers with every fault found, not only the first one. Object metadata is in its care too.
	Validate func(ctx context.Context, obj T) field.ErrorList
	// PrepareUpdate runs before the validation of an update of the main resource: keep the old status, bump
	// the generation when the spec changed.
	PrepareUpdate func(ctx context.Context, obj, old T)
	// ValidateUpdate answers with every fault of an update, immutable fields among them.
	ValidateUpdate func(ctx context.Context, obj, old T) field.ErrorList
	// Warn answers with the warnings of a create (old is then the zero T) or an update.
	Warn func(ctx context.Context, obj, old T) []string
	// Canonicalize brings a validated object into the one form that is stored.
	Canonicalize func(T)

	// AllowCreateOnUpdate lets a PUT create an object that is not there.
	AllowCreateOnUpdate bool
	// DenyUnconditionalUpdate wants a resourceVersion with every PUT.
	DenyUnconditionalUpdate bool

	// ResetFields are the field paths that server-side apply ignores on the main resource; nil means
	// {"status"} where the kind has a status.
	ResetFields [][]string
	// Status describes the /status subresource; nil when the kind has none.
	Status *SubresourceRules[T]

	// GracefulDelete says whether a delete only marks the object (deletionTimestamp) for now. It may set
	// the grace period in options. Nil: a delete is at once.
	GracefulDelete func(ctx context.Context, obj T, options *metav1.DeleteOptions) bool
	// ReturnDeleted answers a delete with the object, in place of a Status.
	ReturnDeleted bool
	// OrphanByDefault keeps dependents when a delete does not say what to do with them.
	OrphanByDefault bool

	// Selectable answers with the fields that a fieldSelector may name, beside metadata.name and
	// metadata.namespace, which are always there. The keys must be the same for every object.
	Selectable func(T) fields.Set

	// Table describes the server-side table; nil gives NAME and CREATED AT.
	Table *Table[T]

	// TTLSeconds, when not nil, answers with the life of a stored object in seconds (0: for ever).
	TTLSeconds func(obj T, existing uint64, update bool) (uint64, error)

	// Connect adds further subresources, by their path below the resource: "binding", "log", "token".
	Connect func(Env) (map[string]rest.Storage, error)
	// Beside adds resources of the kind's group version that keep nothing of their own: "bindings" beside pods.
	Beside func(Env) map[string]rest.Storage
	// Configure is the last word on the main store, for hooks that no field above has (BeginCreate,
	// AfterDelete, …). Prefer a field above.
	Configure func(Env) error
	// Also are further API groups that serve the same stored objects in a form of their own.
	Also []Alias
	// WatchField names one of the Selectable fields ("spec.nodeName") that many watches select by: events
	// are then handed only to the watches that asked for the object's value of it.
	WatchField string
	// Wrap puts the kind's own rules around the main resource's verbs (namespaces end in two steps and have
	// no deletecollection). main serves every verb, and what it answers with is served in its place.
	Wrap func(env Env, main Main) rest.Storage
}

// SubresourceRules describes a subresource that updates part of the stored object through the same store:
// status above all.
type SubresourceRules[T Object] struct {
	PrepareUpdate  func(ctx context.Context, obj, old T)
	ValidateUpdate func(ctx context.Context, obj, old T) field.ErrorList
	Warn           func(ctx context.Context, obj, old T) []string
	// ResetFields are the field paths that server-side apply ignores on this subresource, such as
	// {"spec"}, {"metadata","ownerReferences"}; nil means {"spec"}.
	ResetFields [][]string
}

// Alias is a second form of a kind: events are core/v1 and events.k8s.io/v1 over one storage. Requests for it
// are served by the kind's own stores, whose objects are converted on the way in and out.
type Alias struct {
	GVK     schema.GroupVersionKind
	New     func() runtime.Object
	NewList func() runtime.Object
	// Default fills what the user left out of the alias's own type; nil when there is nothing to fill.
	Default func(runtime.Object)
	// Convert and Revert turn an object of the kind's Go type into one of the alias's, and back. What they
	// are given must not be changed, but its parts may be shared. Lists are converted item by item.
	Convert, Revert func(in, out runtime.Object) error
	// FieldLabel answers with the kind's own name of a field that a fieldSelector names, or an error that
	// says it is none. Nil: the names are the kind's.
	FieldLabel func(label, value string) (string, string, error)
}

// Table describes how a kind prints.
type Table[T Object] struct {
	Columns []metav1.TableColumnDefinition
	// Row answers with one cell for each column, and the conditions of the row (such as Completed).
	Row func(obj T) (cells []any, conditions []metav1.TableRowCondition)
	// InList, when not nil, has the last word on the rows of a list: on what an object alone cannot tell. The
	// rows' objects are of type T.
	InList func(rows []metav1.TableRow)
}

// Env is what a kind's own subresources may use.
type Env struct {
	// Store is the kind's main store.
	Store *genericregistry.Store
	// Options says how stores are made, for a kind that keeps something beside its objects.
	Options generic.RESTOptionsGetter
	// Lookup answers with the main store of another kind that is served, or nil. It may be called only
	// when a request is handled, not while the kinds are being put together.
	Lookup func(schema.GroupResource) *genericregistry.Store
	// Nodes reaches the servers of the node agents.
	Nodes NodeConnector
	// Tokens issues service-account tokens.
	Tokens TokenIssuer
	// Authorizer says what a user may do, for subresources that ask for more than the request's own verb.
	Authorizer authorizer.UnconditionalAuthorizer
}
