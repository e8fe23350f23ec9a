package pki

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
)

// Identity is who a client is to the API server, or the API server to a node.
type Identity struct {
	User   string
	Groups []string
}

// The identities of the parts, with upstream's names, so that upstream's RBAC roles fit them.
var (
	Admin             = Identity{User: "kubernetes-admin", Groups: []string{"system:masters"}}
	Scheduler         = Identity{User: "system:kube-scheduler"}
	ControllerManager = Identity{User: "system:kube-controller-manager"}
	Proxy             = Identity{User: "system:kube-proxy"}
	// NetworkPolicies is the part of a node that enforces NetworkPolicies. Upstream has none.
	NetworkPolicies = Identity{User: "system:podium:network-policies"}
	// KubeletClient is what the API server is to the node agents.
	KubeletClient = Identity{User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}}
)

// Node is the identity of a node's agent.
func Node(name string) Identity {
	return Identity{User: "system:node:" + name, Groups: []string{"system:nodes"}}
}

// client is the transport of one identity. All that act under it share its connections.
type client struct {
	cert      *Certificate
	dialer    *connrotation.Dialer
	transport *http.Transport
}

// ClientConfig returns a configuration to reach the API server at a URL as somebody: no client-side
// rate limit, protobuf where a type has it. Its certificate is renewed while it is used.
func (a *Authority) ClientConfig(who Identity, url string) (*rest.Config, error) {
	t, err := a.Transport(who)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:      url,
		Transport: t,
		QPS:       -1,
		UserAgent: "podium/" + strings.TrimPrefix(who.User, "system:"),
		ContentConfig: rest.ContentConfig{
			ContentType:        runtime.ContentTypeProtobuf,
			AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
	}, nil
}

// Transport returns the transport of an identity: it trusts the CA and presents the identity's
// certificate. The same identity always has the same transport.
func (a *Authority) Transport(who Identity) (*http.Transport, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := who.User + "\x00" + strings.Join(who.Groups, "\x00")
	if c, ok := a.clients[id]; ok {
		return c.transport, nil
	}
	cert := a.Client(who)
	if _, err := cert.Get(); err != nil {
		return nil, err
	}
	c := &client{cert: cert, dialer: connrotation.NewDialer((&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext)}
	c.transport = utilnet.SetTransportDefaults(&http.Transport{
		Proxy:               nil, // our own parts never go through a proxy
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 25,
		DialContext:         c.dialer.DialContext,
		DisableCompression:  true,
		TLSClientConfig: &tls.Config{
			MinVersion:           tls.VersionTLS12,
			RootCAs:              a.pool,
			GetClientCertificate: cert.GetClientCertificate,
		},
	})
	a.clients[id] = c
	// The API server judges every request by the certificate of its connection, so connections made with
	// the old certificate are dropped before that ends.
	cert.OnRenewal(c.dialer.CloseAll)
	return c.transport, nil
}

// renewIn is how long it is until the certificate is renewed, at least a minute.
func (c *Certificate) renewIn() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.renewAt.Sub(c.a.clock.Now()), time.Minute)
}

// CloseConnections closes the connections of all clients. Those that are used again connect again.
func (a *Authority) CloseConnections() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.clients {
		c.dialer.CloseAll()
	}
}

// OnRenewal calls f each time the certificate has been renewed, until the returned stop is called. It also
// renews it in time when nobody asks for it.
func (c *Certificate) OnRenewal(f func()) (stop func()) {
	var stopped atomic.Bool
	var wait func()
	renew := func() {
		if stopped.Load() {
			return
		}
		if _, err := c.Get(); err == nil {
			f()
		}
		wait()
	}
	// A fake clock calls back while it is locked, hence the goroutine.
	wait = func() { c.a.clock.AfterFunc(c.renewIn(), func() { go renew() }) }
	wait()
	return func() { stopped.Store(true) }
}

// ServerTLS returns the settings of a server that serves only those whom the CA vouches for.
func (a *Authority) ServerTLS(name ServerName) (*tls.Config, error) {
	cert := a.Server(name)
	if _, err := cert.Get(); err != nil {
		return nil, fmt.Errorf("make the certificate of the server %q: %w", name.Subject, err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   CipherSuites(),
		GetCertificate: cert.GetCertificate,
		ClientCAs:      a.pool,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		NextProtos:     []string{"h2", "http/1.1"},
	}, nil
}
