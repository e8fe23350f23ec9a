package token

import (
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/apistore"
)

// leeway is how far clocks may be apart, and how long a token outlives what it is bound to.
const leeway = time.Minute

var errInvalidated = errors.New("service account token has been invalidated")

// Verifier checks tokens: the signature, the times, the audience, and that all it is bound to still lives.
type Verifier struct {
	clock  clock.PassiveClock
	stores apistore.Stores
	keys   map[string]*ecdsa.PublicKey
	parser *jwt.Parser
}

var _ authenticator.Token = &Verifier{}

// NewVerifier makes a verifier that takes tokens signed with one of the keys.
func NewVerifier(keys []*ecdsa.PrivateKey, stores apistore.Stores, clock clock.PassiveClock) (*Verifier, error) {
	v := &Verifier{clock: clock, stores: stores, keys: map[string]*ecdsa.PublicKey{}}
	for _, private := range keys {
		k, err := newKey(&private.PublicKey)
		if err != nil {
			return nil, err
		}
		v.keys[k.id] = k.public
	}
	v.parser = jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}), jwt.WithoutClaimsValidation())
	return v, nil
}

// AuthenticateToken implements authenticator.Token. It has no opinion on what is not a token of ours.
func (v *Verifier) AuthenticateToken(ctx context.Context, token string) (*authenticator.Response, bool, error) {
	if !ours(token) {
		return nil, false, nil
	}
	c := &claims{}
	if _, err := v.parser.ParseWithClaims(token, c, v.key); err != nil {
		return nil, false, fmt.Errorf("invalid bearer token: %w", err)
	}
	wanted, ok := authenticator.AudiencesFrom(ctx)
	if !ok {
		wanted = authenticator.Audiences{Issuer}
	}
	audiences := wanted.Intersect(authenticator.Audiences(c.Audience))
	if len(audiences) == 0 {
		return nil, false, fmt.Errorf("token audiences %q is invalid for the target audiences %q", authenticator.Audiences(c.Audience), wanted)
	}
	if err := v.checkTimes(c); err != nil {
		return nil, false, err
	}
	info, err := v.checkBound(ctx, c)
	if err != nil {
		return nil, false, err
	}
	return &authenticator.Response{User: info.UserInfo(), Audiences: audiences}, true, nil
}

func (v *Verifier) key(t *jwt.Token) (any, error) {
	id, _ := t.Header["kid"].(string)
	if k := v.keys[id]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("no key has the id %q", id)
}

// ours says, without trusting it, whether a token claims to be from this issuer.
func ours(token string) bool {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > 1<<16 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	return json.Unmarshal(payload, &c) == nil && c.Issuer == Issuer
}

func (v *Verifier) checkTimes(c *claims) error {
	now := v.clock.Now()
	switch {
	case c.ExpiresAt == nil || now.Add(-leeway).After(c.ExpiresAt.Time):
		return errors.New("service account token has expired")
	case c.NotBefore != nil && now.Add(leeway).Before(c.NotBefore.Time):
		return errors.New("service account token is not valid yet")
	case c.IssuedAt != nil && now.Add(leeway).Before(c.IssuedAt.Time):
		return errors.New("service account token is issued in the future")
	}
	return nil
}

// checkBound finds the service account, and what else the token is bound to, alive and the same.
func (v *Verifier) checkBound(ctx context.Context, c *claims) (*serviceaccount.ServiceAccountInfo, error) {
	p := c.Private
	sa, err := find[*corev1.ServiceAccount](ctx, v, "serviceaccounts", p.Namespace, &p.ServiceAccount)
	if err != nil {
		return nil, err
	}
	if string(sa.UID) != p.ServiceAccount.UID {
		return nil, fmt.Errorf("service account UID (%s) does not match claim (%s)", sa.UID, p.ServiceAccount.UID)
	}
	if v.gone(sa) {
		return nil, fmt.Errorf("service account %s/%s has been deleted", p.Namespace, p.ServiceAccount.Name)
	}
	info := &serviceaccount.ServiceAccountInfo{
		Namespace: p.Namespace, Name: p.ServiceAccount.Name, UID: p.ServiceAccount.UID,
		CredentialID: "JTI=" + c.ID,
	}
	if c.ID == "" {
		info.CredentialID = ""
	}
	if p.Secret != nil {
		if err := same[*corev1.Secret](ctx, v, "secrets", "secret", p.Namespace, p.Secret); err != nil {
			return nil, err
		}
	}
	if p.Pod != nil {
		if err := same[*corev1.Pod](ctx, v, "pods", "pod", p.Namespace, p.Pod); err != nil {
			return nil, err
		}
		info.PodName, info.PodUID = p.Pod.Name, p.Pod.UID
	}
	if p.Node != nil {
		// The node of a Pod's token is information only: the token ends with the Pod.
		if p.Pod == nil {
			if err := same[*corev1.Node](ctx, v, "nodes", "node", "", p.Node); err != nil {
				return nil, err
			}
		}
		info.NodeName, info.NodeUID = p.Node.Name, p.Node.UID
	}
	return info, nil
}

// object is what a token may be bound to.
type object interface {
	runtime.Object
	metav1.Object
}

// gone reports whether an object is being deleted, and for longer than the leeway.
func (v *Verifier) gone(o metav1.Object) bool {
	t := o.GetDeletionTimestamp()
	return t != nil && t.Time.Before(v.clock.Now().Add(-leeway))
}

// find looks in the cache, and in etcd for what the cache does not know yet.
func find[T object](ctx context.Context, v *Verifier, resource, namespace string, r *ref) (T, error) {
	o, err := apistore.Get[T](ctx, v.stores, apistore.Core(resource), namespace, r.Name)
	if apierrors.IsNotFound(err) || err == nil && string(o.GetUID()) != r.UID {
		o, err = apistore.GetCurrent[T](ctx, v.stores, apistore.Core(resource), namespace, r.Name)
	}
	return o, err
}

// same finds the object that a token is bound to alive and the same.
func same[T object](ctx context.Context, v *Verifier, resource, kind, namespace string, r *ref) error {
	o, err := find[T](ctx, v, resource, namespace, r)
	if err != nil {
		return errInvalidated
	}
	if string(o.GetUID()) != r.UID {
		return fmt.Errorf("%s UID (%s) does not match service account %s ref claim (%s)", kind, o.GetUID(), kind, r.UID)
	}
	if v.gone(o) {
		return errInvalidated
	}
	return nil
}
