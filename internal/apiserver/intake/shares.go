package intake

import (
	"math"
	"strings"
	"sync"

	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/apiserver/pkg/authentication/user"
)

// unlimited is a limit that is never reached.
const unlimited = math.MaxInt64

// shares divides something among users: no user takes more than one share, all together no more than the total. The zero of it,
// a nil pointer, gives to everybody.
type shares struct {
	total, each int64

	mu   sync.Mutex
	used int64
	by   map[string]int64
}

func newShares(total, each int64) *shares {
	return &shares{total: total, each: each, by: map[string]int64{}}
}

// take takes n for a user and reports whether there was as much.
func (s *shares) take(name string, n int64) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used > s.total-n || s.by[name] > s.each-n {
		return false
	}
	s.used += n
	s.by[name] += n
	return true
}

// give gives back n that a user took.
func (s *shares) give(name string, n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.by[name] -= n; s.by[name] == 0 {
		delete(s.by, name)
	}
}

// holding is what one request has taken of the bytes.
type holding struct {
	shares *shares
	name   string
	bytes  int64
}

func (h *holding) take(n int64) bool {
	if !h.shares.take(h.name, n) {
		return false
	}
	h.bytes += n
	return true
}

func (h *holding) release() {
	h.shares.give(h.name, h.bytes)
	h.bytes = 0
}

// The identities of the control plane's parts that are no system:masters.
const (
	schedulerUser   = user.KubeScheduler
	controllersUser = user.KubeControllerManager
)

// classify returns the class of a user, and the name that the shares of it count by. Service accounts count by their namespace:
// whoever may make one in a namespace may make a hundred.
func (f *filter) classify(who user.Info) (class *classOf, name string) {
	name = who.GetName()
	if name == schedulerUser || name == controllersUser {
		return f.system, name
	}
	for _, g := range who.GetGroups() {
		switch g {
		case user.SystemPrivilegedGroup, user.NodesGroup:
			return f.system, name
		}
	}
	if strings.HasPrefix(name, serviceaccount.ServiceAccountUsernamePrefix) {
		if namespace, _, err := serviceaccount.SplitUsername(name); err == nil {
			return f.others, serviceaccount.MakeNamespaceGroupName(namespace)
		}
	}
	return f.others, name
}
