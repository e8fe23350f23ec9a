package kit

import (
	"context"
	"net/http"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// NodeConnector connects to the HTTPS servers of the node agents with the API server's own client certificate.
type NodeConnector interface {
	// Node returns the base URL of a node's server (https://ADDRESS:PORT, from the node's status) and a
	// transport that verifies it and presents the API server's identity. The error names the node, and is
	// NotFound if there is no such node.
	Node(ctx context.Context, name string) (*url.URL, http.RoundTripper, error)
}

// TokenIssuer signs service-account tokens.
type TokenIssuer interface {
	// Audiences returns the audiences of the API server itself.
	Audiences() []string
	// MaxLife returns the longest lifetime that is granted. Requests for a longer one are shortened to it.
	MaxLife() time.Duration
	// Issue returns a signed token for the service account. The token is bound to boundTo unless that is nil,
	// and is valid for the audiences (nil means the API server's own) and at most for the given lifetime.
	Issue(ctx context.Context, sa *corev1.ServiceAccount, boundTo *BoundObject, audiences []string, life time.Duration) (token string, expires time.Time, err error)
}

// BoundObject is the object whose deletion invalidates a token. NodeName and NodeUID are set for a Pod that has
// a node.
type BoundObject struct {
	Kind, Name, UID   string
	NodeName, NodeUID string
}
