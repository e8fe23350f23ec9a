// Package intake stands between the authorization of a request and its handling. It reads a request's body before the request
// takes one of the server's slots, bounds what one user and all users together have in flight, and refuses a body that a decoder
// would blow up to many times its size.
//
//	authorized ──▶ body read ──▶ body judged ──▶ user's slot ──▶ class's slot ──▶ handled
//	               (deadline,     (JSON, YAML,    (429 when the user or the class
//	                bytes a user)  protobuf)       has as many as it may)
//
// It is what protects the control plane until API priority and fairness does, and it stays useful next to that, which counts a
// request whose body is still on its way as one that is being executed.
package intake

import (
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericfilters "k8s.io/apiserver/pkg/server/filters"
)

const (
	// maxReads and maxWrites are how many requests a class (the control plane, all others) has in flight: kube-apiserver's
	// defaults of --max-requests-inflight and --max-mutating-requests-inflight.
	maxReads, maxWrites = 400, 200
	// maxUserReads and maxUserWrites are how many one user has: a quarter, so that three greedy ones leave room for a fourth.
	maxUserReads, maxUserWrites = maxReads / 4, maxWrites / 4
	// maxUserBodies is how many bodies of one user are on their way. They take no slot, only the memory of a connection.
	maxUserBodies = 64
	// maxBodyBytes is how many bytes of bodies a class has in memory, until their requests are handled, and maxUserBodyBytes how
	// many one user has: the memory of a request that is handled is a multiple of its body's size. Two bodies of the largest size
	// (3 MiB) fit side by side; a thousand ordinary objects do.
	maxBodyBytes, maxUserBodyBytes = 32 << 20, 8 << 20
	// bodyTime is how long a body may take. The largest arrives in time at 100 kB/s.
	bodyTime = 30 * time.Second
	// retryAfter is the seconds after which a client that was turned away tries again; WithMaxInFlightLimit says the same.
	retryAfter = 1
)

// Config is what the filter needs to know of the server.
type Config struct {
	Serializer runtime.NegotiatedSerializer
	// LongRunning tells the requests that have neither slots nor a body to read: watches and streams.
	LongRunning request.LongRunningRequestCheck
	// MaxBody is the size of the largest body; the handler refuses those that are larger.
	MaxBody int64
}

// classOf is a class of users, with slots and memory that no other class can take.
type classOf struct {
	handler http.Handler
	bodies  *shares // bytes
	// reads and writes are nil for the control plane, which is one user after the other of the same owner.
	reads, writes *shares
	pending       *shares
}

// filter is the http.Handler of this package.
type filter struct {
	Config
	open, system, others *classOf
}

// Wrap puts the filter before a handler. It belongs behind the authorization, and WithBodyDeadline before all.
func Wrap(handler http.Handler, c Config) http.Handler {
	slots := func() http.Handler {
		return genericfilters.WithMaxInFlightLimit(handler, maxReads, maxWrites, c.LongRunning)
	}
	return &filter{
		Config: c,
		open:   &classOf{handler: handler},
		system: &classOf{handler: slots(), bodies: newShares(maxBodyBytes, maxBodyBytes)},
		others: &classOf{
			handler: slots(), bodies: newShares(maxBodyBytes, maxUserBodyBytes),
			reads: newShares(maxReads, maxUserReads), writes: newShares(maxWrites, maxUserWrites),
			pending: newShares(unlimited, maxUserBodies),
		},
	}
}

// ServeHTTP implements http.Handler.
func (f *filter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	info, ok := request.RequestInfoFrom(r.Context())
	who, known := request.UserFrom(r.Context())
	if !ok || !known || f.LongRunning(r, info) {
		f.open.handler.ServeHTTP(w, r)
		return
	}
	c, name := f.classify(who)
	held := &holding{shares: c.bodies, name: name}
	defer held.release()
	if r.Body != nil && r.Body != http.NoBody {
		if !c.pending.take(name, 1) {
			f.turnAway(w, r, "requests are being received from this user")
			return
		}
		body, err := receive(r, f.MaxBody, held)
		c.pending.give(name, 1)
		if err == nil {
			err = Judge(r.Header.Get("Content-Type"), body.bytes)
		}
		if err != nil {
			f.refuse(w, r, err)
			return
		}
		r.Body = body
	}
	slots := c.writes
	if reading(info.Verb) {
		slots = c.reads
	}
	if !slots.take(name, 1) {
		f.turnAway(w, r, "requests of this user are being served")
		return
	}
	defer slots.give(name, 1)
	c.handler.ServeHTTP(w, r)
}

// reading reports whether a verb is one of the readers' slots, as WithMaxInFlightLimit has it.
func reading(verb string) bool { return verb == "get" || verb == "list" || verb == "watch" }

func (f *filter) refuse(w http.ResponseWriter, r *http.Request, err error) {
	info, _ := request.RequestInfoFrom(r.Context())
	gv := schema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}
	responsewriters.ErrorNegotiated(err, f.Serializer, gv, w, r)
}

func (f *filter) turnAway(w http.ResponseWriter, r *http.Request, what string) {
	f.refuse(w, r, apierrors.NewTooManyRequests("too many "+what+"; try again later", retryAfter))
}
