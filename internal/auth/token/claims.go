// Package token signs and checks service-account tokens, and publishes the keys that others check them by.
//
// Tokens are bound: each says which service account it is of, and of which Pod, Secret or Node the end ends
// the token. Tokens without an end, which old Secrets of type kubernetes.io/service-account-token hold, are
// neither made nor taken.
package token

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"

	"github.com/golang-jwt/jwt/v5"

	"podium.dev/podium/internal/cluster"
)

// Issuer is the issuer of the cluster's tokens, and their audience when a request names none.
const Issuer = "https://kubernetes.default.svc." + cluster.Domain

// claims is what a token says, in Kubernetes' form.
type claims struct {
	jwt.RegisteredClaims
	Private private `json:"kubernetes.io"`
}

type private struct {
	Namespace      string           `json:"namespace,omitempty"`
	ServiceAccount ref              `json:"serviceaccount"`
	Pod            *ref             `json:"pod,omitempty"`
	Secret         *ref             `json:"secret,omitempty"`
	Node           *ref             `json:"node,omitempty"`
	WarnAfter      *jwt.NumericDate `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// key is a public key with the name that tokens call it by: the hash of its encoding.
type key struct {
	id     string
	public *ecdsa.PublicKey
}

func newKey(public *ecdsa.PublicKey) (key, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return key{}, fmt.Errorf("name a service-account key: %w", err)
	}
	sum := sha256.Sum256(der)
	return key{id: base64.RawURLEncoding.EncodeToString(sum[:]), public: public}, nil
}
