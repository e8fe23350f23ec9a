package registry

import (
	"context"
	"net/http"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// NodeConnector reaches the HTTPS servers of the node agents with the API server's own client certificate.
type NodeConnector interface {
	// Node answers with the base address of a node's server (https://ADDRESS:PORT, from the node's status)
	// and a transport that trusts it and presents the API server's identity. The error names the node and
	// is NotFound when there is no such node.
	Node(ctx context.Context, name string) (*url.URL, http.RoundTripper, error)
}

// TokenIssuer signs service-account tokens.
type TokenIssuer interface {
	// Audiences are those of the API server itself.
	Audiences() []string
	// Issue answers with a signed token for the service account, bound to the Pod, Secret or Node when one
	// is given (nil otherwise), for the audiences (nil: the API server's own) and at most for the life asked.
	Issue(ctx context.Context, sa *corev1.ServiceAccount, boundTo *BoundObject, audiences []string, life time.Duration) (token string, expires time.Time, err error)
}

// BoundObject is the object whose end ends a token. NodeName and NodeUID are set for a Pod that has a node.
type BoundObject struct {
	Kind, Name, UID   string
	NodeName, NodeUID string
}
