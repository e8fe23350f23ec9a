package token

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/authentication/serviceaccount"
	"k8s.io/utils/clock"

	"podium.dev/podium/internal/registry/kit"
)

const (
	// projectedLife is the life that the token volume asks for, and only that: upstream marks so the Pods
	// whose programs may never read their token again. They get a year, and are warned after this time.
	projectedLife = 3607 * time.Second
	extendedLife  = 365 * 24 * time.Hour
)

const (
	// DefaultMaxLife is the longest life of a token unless a cluster's operator sets another: a token that leaks is worth
	// something for a year at most, which is what a projected token can live anyway (extendedLife). kube-apiserver has no
	// maximum unless --service-account-max-token-expiration sets one.
	DefaultMaxLife = extendedLife
	// MinMaxLife and MaxMaxLife bound that setting, as kube-apiserver's --service-account-max-token-expiration.
	MinMaxLife = time.Hour
	MaxMaxLife = (1 << 32) * time.Second
)

// Signer issues tokens.
type Signer struct {
	clock   clock.PassiveClock
	key     *ecdsa.PrivateKey
	id      string
	maxLife time.Duration
}

var _ kit.TokenIssuer = &Signer{}

// NewSigner makes a signer with a key on P-256, whose tokens live no longer than maxLife.
func NewSigner(private *ecdsa.PrivateKey, maxLife time.Duration, clock clock.PassiveClock) (*Signer, error) {
	k, err := newKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Signer{clock: clock, key: private, id: k.id, maxLife: maxLife}, nil
}

// Audiences implements kit.TokenIssuer.
func (s *Signer) Audiences() []string { return []string{Issuer} }

// MaxLife implements kit.TokenIssuer.
func (s *Signer) MaxLife() time.Duration { return s.maxLife }

// Issue implements kit.TokenIssuer. No caller can exceed the signer's maximum.
func (s *Signer) Issue(_ context.Context, sa *corev1.ServiceAccount, bound *kit.BoundObject, audiences []string, life time.Duration) (string, time.Time, error) {
	if len(audiences) == 0 {
		audiences = s.Audiences()
	}
	now, life := s.clock.Now(), min(life, s.maxLife)
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        uuid.NewString(),
			Issuer:    Issuer,
			Subject:   serviceaccount.MakeUsername(sa.Namespace, sa.Name),
			Audience:  audiences,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(life)),
		},
		Private: private{Namespace: sa.Namespace, ServiceAccount: ref{sa.Name, string(sa.UID)}},
	}
	if err := c.Private.bind(bound); err != nil {
		return "", time.Time{}, err
	}
	if life == projectedLife && c.Private.Pod != nil && slices.Equal(audiences, s.Audiences()) {
		c.ExpiresAt = jwt.NewNumericDate(now.Add(min(extendedLife, s.maxLife)))
		c.Private.WarnAfter = jwt.NewNumericDate(now.Add(life))
	}
	t := jwt.NewWithClaims(jwt.SigningMethodES256, c)
	t.Header["kid"] = s.id
	delete(t.Header, "typ") // as upstream's tokens
	signed, err := t.SignedString(s.key)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign a token of service account %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	return signed, now.Add(life), nil
}

func (p *private) bind(to *kit.BoundObject) error {
	if to == nil {
		return nil
	}
	r := &ref{to.Name, to.UID}
	switch to.Kind {
	case "Pod":
		p.Pod = r
		if to.NodeName != "" {
			p.Node = &ref{to.NodeName, to.NodeUID}
		}
	case "Secret":
		p.Secret = r
	case "Node":
		p.Node = r
	default:
		return fmt.Errorf("a token cannot be bound to a %s", to.Kind)
	}
	return nil
}
