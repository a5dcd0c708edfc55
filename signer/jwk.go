package signer

import "fmt"

// A JWK is a public key as it is published, RFC 7517 section 4. Every key has
// kty, kid, use and alg: real servers refuse keys without them. There is no
// field that could hold a private member.
type JWK struct {
	KeyType   string `json:"kty"`
	KeyID     string `json:"kid"`
	Use       string `json:"use"` // always sig
	Algorithm string `json:"alg"`

	Curve string `json:"crv,omitempty"` // EC
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`

	N string `json:"n,omitempty"` // RSA
	E string `json:"e,omitempty"`
}

// A JWKSet is a set of public keys, RFC 7517 section 5.
type JWKSet struct {
	Keys []JWK `json:"keys"`
}

// PublicJWK returns key as it is published.
func PublicJWK(key Key) (JWK, error) {
	err := key.Check()
	if err == nil && key.ID == "" {
		err = unsupported("the key has no kid")
	}
	if err != nil {
		return JWK{}, fmt.Errorf("signer: export key: %w", err)
	}
	m, err := membersOf(key.Public)
	if err != nil {
		return JWK{}, fmt.Errorf("signer: export key %q: %w", key.ID, err)
	}
	return JWK{
		KeyType: m.kty, KeyID: key.ID, Use: "sig", Algorithm: string(key.Algorithm),
		Curve: m.crv, X: m.x, Y: m.y, N: m.n, E: m.e,
	}, nil
}

// PublicJWKSet returns keys, in their order, as they are published.
func PublicJWKSet(keys []Key) (JWKSet, error) {
	set := JWKSet{Keys: make([]JWK, 0, len(keys))}
	for _, key := range keys {
		jwk, err := PublicJWK(key)
		if err != nil {
			return JWKSet{}, err
		}
		set.Keys = append(set.Keys, jwk)
	}
	return set, nil
}
