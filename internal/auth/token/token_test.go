package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	clocktesting "k8s.io/utils/clock/testing"

	"podium.dev/podium/internal/registry/kit"
)

func newTestKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTokensAreCheckedBeforeAnythingIsLookedUp(t *testing.T) {
	mine, other := newTestKey(t), newTestKey(t)
	clock := clocktesting.NewFakePassiveClock(time.Now())
	signer, err := NewSigner(mine, DefaultMaxLife, clock)
	if err != nil {
		t.Fatal(err)
	}
	noStores := func(schema.GroupResource) *genericregistry.Store { return nil }
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "1"}}
	issue := func(audiences ...string) string {
		t.Helper()
		token, _, err := signer.Issue(context.Background(), sa, nil, audiences, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := issue()
	cut := good[:len(good)-4] + "AAAA"
	for name, c := range map[string]struct {
		token string
		keys  []*ecdsa.PrivateKey
		at    time.Duration
		ctx   context.Context
		want  string // in the error; "" for no opinion
	}{
		"not a token":         {token: "secret", keys: []*ecdsa.PrivateKey{mine}},
		"of another issuer":   {token: "e30.e30.e30", keys: []*ecdsa.PrivateKey{mine}},
		"of another key":      {token: good, keys: []*ecdsa.PrivateKey{other}, want: "no key has the id"},
		"signature cut":       {token: cut, keys: []*ecdsa.PrivateKey{mine}, want: "invalid bearer token"},
		"expired":             {token: good, keys: []*ecdsa.PrivateKey{mine}, at: 2 * time.Hour, want: "has expired"},
		"not yet":             {token: good, keys: []*ecdsa.PrivateKey{mine}, at: -time.Hour, want: "not valid yet"},
		"of another audience": {token: issue("vault"), keys: []*ecdsa.PrivateKey{mine}, want: `token audiences ["vault"] is invalid for the target audiences`},
		"audience asked for": {token: issue("vault"), keys: []*ecdsa.PrivateKey{mine}, want: "is not served",
			ctx: authenticator.WithAudiences(context.Background(), authenticator.Audiences{"vault"})},
		"good": {token: good, keys: []*ecdsa.PrivateKey{other, mine}, want: "serviceaccounts is not served"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := NewVerifier(c.keys, noStores, clocktesting.NewFakePassiveClock(clock.Now().Add(c.at)))
			if err != nil {
				t.Fatal(err)
			}
			ctx := c.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			_, ok, err := v.AuthenticateToken(ctx, c.token)
			switch {
			case ok:
				t.Error("it was taken")
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error = %v, want %q", err, c.want)
			}
		})
	}
}

func TestProjectedTokensLiveLonger(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Now())
	signer, err := NewSigner(newTestKey(t), DefaultMaxLife, clock)
	if err != nil {
		t.Fatal(err)
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "1"}}
	pod := &kit.BoundObject{Kind: "Pod", Name: "p", UID: "2", NodeName: "n", NodeUID: "3"}
	token, expires, err := signer.Issue(context.Background(), sa, pod, nil, projectedLife)
	if err != nil {
		t.Fatal(err)
	}
	if got := expires.Sub(clock.Now()); got != projectedLife {
		t.Errorf("it is said to live %v, want %v", got, projectedLife)
	}
	v, err := NewVerifier([]*ecdsa.PrivateKey{signer.key}, func(schema.GroupResource) *genericregistry.Store { return nil },
		clocktesting.NewFakePassiveClock(clock.Now().Add(30*24*time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.AuthenticateToken(context.Background(), token); err == nil || !strings.Contains(err.Error(), "is not served") {
		t.Errorf("after a month: %v, want it to be looked up", err)
	}
	if _, _, err := signer.Issue(context.Background(), sa, &kit.BoundObject{Kind: "Job"}, nil, time.Hour); err == nil {
		t.Error("a token was bound to a Job")
	}
}

// No token lives longer than the maximum: not the one that asks for more, nor the one whose life is extended.
func TestMaxLife(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second))
	signer, err := NewSigner(newTestKey(t), 2*time.Hour, clock)
	if err != nil {
		t.Fatal(err)
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "sa", UID: "1"}}
	pod := &kit.BoundObject{Kind: "Pod", Name: "p", UID: "2"}
	for name, tc := range map[string]struct {
		life time.Duration
		want time.Duration
	}{
		"as asked": {time.Hour, time.Hour}, "shortened": {999999 * time.Hour, 2 * time.Hour}, "extended to no more": {projectedLife, 2 * time.Hour},
	} {
		signed, _, err := signer.Issue(t.Context(), sa, pod, nil, tc.life)
		if err != nil {
			t.Fatal(err)
		}
		var c claims
		if _, _, err := jwt.NewParser().ParseUnverified(signed, &c); err != nil {
			t.Fatal(err)
		}
		if got := c.ExpiresAt.Sub(clock.Now()); got != tc.want {
			t.Errorf("%s: the token lives %v, expected %v", name, got, tc.want)
		}
	}
}
