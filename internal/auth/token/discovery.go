package token

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/server/mux"
)

const (
	configPath = "/.well-known/openid-configuration"
	keysPath   = "/openid/v1/jwks"
	// maxAge is how many seconds others may keep the answers.
	maxAge = 3600
)

// InstallDiscovery serves what others need to check tokens by themselves: the issuer's configuration and its
// keys (OpenID Connect discovery). address is HOST:PORT of the API server.
func InstallDiscovery(m *mux.PathRecorderMux, address string, keys []*ecdsa.PrivateKey) error {
	config, err := json.Marshal(map[string]any{
		"issuer":                                Issuer,
		"jwks_uri":                              "https://" + address + keysPath,
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"},
	})
	if err != nil {
		return fmt.Errorf("write the issuer's configuration: %w", err)
	}
	var set []map[string]string
	for _, private := range keys {
		k, err := newKey(&private.PublicKey)
		if err != nil {
			return err
		}
		point, err := k.public.Bytes() // 4, x, y
		if err != nil {
			return fmt.Errorf("write a public key: %w", err)
		}
		half := len(point[1:]) / 2
		set = append(set, map[string]string{
			"use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": k.id,
			"x": base64.RawURLEncoding.EncodeToString(point[1 : 1+half]),
			"y": base64.RawURLEncoding.EncodeToString(point[1+half:]),
		})
	}
	jwks, err := json.Marshal(map[string]any{"keys": set})
	if err != nil {
		return fmt.Errorf("write the public keys: %w", err)
	}
	m.Handle(configPath, answer("application/json", config))
	m.Handle(keysPath, answer("application/jwk-set+json", jwks))
	return nil
}

func answer(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", maxAge))
		_, _ = w.Write(body) // the client is gone when this fails
	})
}
