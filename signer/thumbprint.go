package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
)

// Thumbprint returns the RFC 7638 thumbprint of an RSA or elliptic curve public
// key: SHA-256 over its required members, base64url without padding. It is the
// key's identity, and its kid where nothing else names it.
func Thumbprint(pub crypto.PublicKey) (string, error) {
	m, err := membersOf(pub)
	if err != nil {
		return "", fmt.Errorf("signer: compute thumbprint: %w", err)
	}
	sum := sha256.Sum256([]byte(m.thumbprintInput()))
	return b64(sum[:]), nil
}

// members are a public key's own members, RFC 7518 section 6.
type members struct {
	kty       string
	n, e      string // RSA
	crv, x, y string // elliptic curve
}

func membersOf(pub crypto.PublicKey) (members, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k != nil && k.N != nil && k.E > 0 {
			return members{kty: "RSA", n: b64(k.N.Bytes()), e: b64(big.NewInt(int64(k.E)).Bytes())}, nil
		}
	case *ecdsa.PublicKey:
		if k != nil && k.Curve != nil {
			point, err := k.Bytes()
			if err != nil {
				return members{}, unsupported("an elliptic curve key that is not on its curve")
			}
			half := (len(point) - 1) / 2 // after the 0x04 of an uncompressed point
			return members{kty: "EC", crv: k.Curve.Params().Name, x: b64(point[1 : 1+half]), y: b64(point[1+half:])}, nil
		}
	}
	return members{}, unsupported("a public key of type %T, or an empty one", pub)
}

// thumbprintInput is RFC 7638 section 3: required members in lexicographic
// order, no white space. No value needs a JSON escape.
func (m members) thumbprintInput() string {
	if m.kty == "RSA" {
		return `{"e":"` + m.e + `","kty":"RSA","n":"` + m.n + `"}`
	}
	return `{"crv":"` + m.crv + `","kty":"EC","x":"` + m.x + `","y":"` + m.y + `"}`
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
