package object

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// oldest is the age at which a token is fetched again however long it lives.
	oldest = 24 * time.Hour
	// spread is how much earlier than due a fetch may be, so that those of many Pods do not come at once.
	spread = 10 * time.Second
	// staleRetry is when a fetch that failed is tried again while the old token still lives.
	staleRetry = time.Minute
)

// Token is a service-account token.
type Token struct {
	Value string
	// RefreshAt is when it should be asked for again.
	RefreshAt time.Time
}

// tokenKey is what a token was asked for.
type tokenKey struct {
	pod                          types.UID
	namespace, account, audience string
	seconds                      int64
}

// tokenEntry is one token; its lock is held while it is fetched, so that it is fetched once.
type tokenEntry struct {
	mu      sync.Mutex
	token   Token
	expires time.Time
}

type tokenCache struct {
	client  kubernetes.Interface
	clock   clock.PassiveClock
	mu      sync.Mutex
	entries map[tokenKey]*tokenEntry
}

func newTokenCache(client kubernetes.Interface, c clock.PassiveClock) *tokenCache {
	return &tokenCache{client: client, clock: c, entries: map[tokenKey]*tokenEntry{}}
}

func (c *tokenCache) get(ctx context.Context, pod *v1.Pod, src *v1.ServiceAccountTokenProjection) (Token, error) {
	if c.client == nil {
		return Token{}, errors.New("cannot use TokenManager when kubelet is in standalone mode")
	}
	k := tokenKey{pod: pod.UID, namespace: pod.Namespace, account: pod.Spec.ServiceAccountName, audience: src.Audience, seconds: 3600}
	if src.ExpirationSeconds != nil {
		k.seconds = *src.ExpirationSeconds
	}
	c.mu.Lock()
	e := c.entries[k]
	if e == nil {
		e = &tokenEntry{}
		c.entries[k] = e
	}
	c.mu.Unlock()

	e.mu.Lock()
	defer e.mu.Unlock()
	now := c.clock.Now()
	if e.token.Value != "" && now.Before(e.token.RefreshAt) {
		return e.token, nil
	}
	answer, err := c.fetch(ctx, k, pod)
	switch {
	case err == nil:
		e.expires = answer.Status.ExpirationTimestamp.Time
		e.token = Token{Value: answer.Status.Token, RefreshAt: refreshAt(answer, now, rand.N(spread))}
	case e.token.Value == "":
		return Token{}, fmt.Errorf("failed to fetch token: %w", err)
	case !now.Before(e.expires):
		return Token{}, fmt.Errorf("token of service account %s/%s expired and refresh failed: %w", k.namespace, k.account, err)
	default:
		klog.ErrorS(err, "Couldn't update token", "pod", klog.KObj(pod), "serviceAccount", k.account)
		e.token.RefreshAt = now.Add(min(staleRetry, e.expires.Sub(now)))
	}
	return e.token, nil
}

func (c *tokenCache) fetch(ctx context.Context, k tokenKey, pod *v1.Pod) (*authenticationv1.TokenRequest, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &k.seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if k.audience != "" {
		request.Spec.Audiences = []string{k.audience}
	}
	return c.client.CoreV1().ServiceAccounts(k.namespace).CreateToken(ctx, k.account, request, metav1.CreateOptions{})
}

// refreshAt is when a token is due: at 80 % of its life or a day of age, less the spread.
func refreshAt(t *authenticationv1.TokenRequest, now time.Time, early time.Duration) time.Time {
	life := t.Status.ExpirationTimestamp.Sub(now)
	if s := t.Spec.ExpirationSeconds; s != nil {
		life = time.Duration(*s) * time.Second
	}
	issued := t.Status.ExpirationTimestamp.Add(-life)
	return issued.Add(min(life*8/10, oldest) - early)
}

// forget drops the tokens of a Pod.
func (c *tokenCache) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.entries {
		if k.pod == uid {
			delete(c.entries, k)
		}
	}
}
