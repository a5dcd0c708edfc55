//go:build cgo

package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	cryptoki "github.com/miekg/pkcs11"
)

// public returns the public half of a private key, with attributes a: from its
// own attributes, else from the public key object or the certificate that has its
// CKA_ID (its CKA_LABEL where it has no ID).
func (c *connection) public(session cryptoki.SessionHandle, h cryptoki.ObjectHandle, a objectAttributes) (crypto.PublicKey, error) {
	kind, ok := a.number(cryptoki.CKA_KEY_TYPE)
	if !ok {
		return nil, malformed("CKA_KEY_TYPE is not a number")
	}
	if kind != cryptoki.CKK_RSA && kind != cryptoki.CKK_EC {
		return nil, unusable("its CKA_KEY_TYPE is 0x%x: it takes RSA or an elliptic curve", kind)
	}
	own, err := c.read(session, h, publicAttributes(kind)...)
	if err != nil {
		return nil, err
	}
	if params := own[cryptoki.CKA_EC_PARAMS]; len(params) > 0 && parseCurve(params) == nil {
		return nil, unusable("its CKA_EC_PARAMS name another curve than P-384")
	}
	if pub, err := publicFrom(kind, own); pub != nil || err != nil {
		return pub, err
	}
	for _, class := range []uint{cryptoki.CKO_PUBLIC_KEY, cryptoki.CKO_CERTIFICATE} {
		handles, err := c.findObjects(session, beside(class, a))
		if err != nil {
			return nil, err
		}
		var pub crypto.PublicKey
		for _, h := range handles {
			other, err := c.publicOf(session, h, class, kind)
			switch {
			case err != nil:
				return nil, err
			case other == nil, !agrees(own, other):
			case pub != nil && !equal(pub, other):
				return nil, unusable("several public keys have its CKA_ID: give each pair of keys an ID of its own")
			default:
				pub = other
			}
		}
		if pub != nil {
			return pub, nil
		}
	}
	return nil, unusable("the token has no public key and no certificate with its CKA_ID: import one of them")
}

// beside matches the objects of a class that belong to a private key.
func beside(class uint, private objectAttributes) []*cryptoki.Attribute {
	template := []*cryptoki.Attribute{cryptoki.NewAttribute(cryptoki.CKA_CLASS, class), cryptoki.NewAttribute(cryptoki.CKA_TOKEN, true)}
	if id := private[cryptoki.CKA_ID]; len(id) > 0 {
		return append(template, cryptoki.NewAttribute(cryptoki.CKA_ID, id))
	}
	return append(template, cryptoki.NewAttribute(cryptoki.CKA_LABEL, private[cryptoki.CKA_LABEL]))
}

func publicAttributes(kind uint64) []uint {
	if kind == cryptoki.CKK_RSA {
		return []uint{cryptoki.CKA_MODULUS, cryptoki.CKA_PUBLIC_EXPONENT, cryptoki.CKA_PUBLIC_KEY_INFO}
	}
	return []uint{cryptoki.CKA_EC_PARAMS, cryptoki.CKA_EC_POINT, cryptoki.CKA_PUBLIC_KEY_INFO}
}

// publicOf returns the public key of a public key object or a certificate; nil
// where it is none of that kind.
func (c *connection) publicOf(session cryptoki.SessionHandle, h cryptoki.ObjectHandle, class uint, kind uint64) (crypto.PublicKey, error) {
	if class == cryptoki.CKO_CERTIFICATE {
		a, err := c.read(session, h, cryptoki.CKA_VALUE)
		if err != nil {
			return nil, err
		}
		cert, err := x509.ParseCertificate(a[cryptoki.CKA_VALUE])
		if err != nil {
			return nil, nil // another certificate may do
		}
		return ofKind(kind, cert.PublicKey), nil
	}
	a, err := c.read(session, h, append(publicAttributes(kind), cryptoki.CKA_KEY_TYPE)...)
	if err != nil {
		return nil, err
	}
	if have, ok := a.number(cryptoki.CKA_KEY_TYPE); ok && have != kind {
		return nil, nil
	}
	return publicFrom(kind, a)
}

// publicFrom returns the public key that attributes hold; nil where they do not
// hold all of it.
func publicFrom(kind uint64, a objectAttributes) (crypto.PublicKey, error) {
	modulus, exponent := a[cryptoki.CKA_MODULUS], a[cryptoki.CKA_PUBLIC_EXPONENT]
	params, point := a[cryptoki.CKA_EC_PARAMS], a[cryptoki.CKA_EC_POINT]
	var pub crypto.PublicKey
	var err error
	switch {
	case kind == cryptoki.CKK_RSA && len(modulus) > 0 && len(exponent) > 0:
		pub, err = parseRSA(modulus, exponent)
	case kind == cryptoki.CKK_EC && len(params) > 0 && len(point) > 0:
		pub, err = parseEC(params, point)
	case len(a[cryptoki.CKA_PUBLIC_KEY_INFO]) > 0:
		// Some libraries fill it with something else: then it does not count.
		info, parseErr := x509.ParsePKIXPublicKey(a[cryptoki.CKA_PUBLIC_KEY_INFO])
		if parseErr == nil {
			pub = ofKind(kind, info)
		}
	}
	if err != nil {
		return nil, malformed(err.Error())
	}
	return pub, nil
}

func ofKind(kind uint64, pub crypto.PublicKey) crypto.PublicKey {
	switch pub.(type) {
	case *rsa.PublicKey:
		if kind == cryptoki.CKK_RSA {
			return pub
		}
	case *ecdsa.PublicKey:
		if kind == cryptoki.CKK_EC {
			return pub
		}
	}
	return nil
}

// agrees reports whether a public key fits what a private key shows of itself.
func agrees(own objectAttributes, pub crypto.PublicKey) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		modulus := own[cryptoki.CKA_MODULUS]
		return len(modulus) == 0 || new(big.Int).SetBytes(modulus).Cmp(pub.N) == 0
	case *ecdsa.PublicKey:
		params := own[cryptoki.CKA_EC_PARAMS]
		return len(params) == 0 || parseCurve(params) == pub.Curve
	default:
		return false
	}
}

func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// clonePublic makes a caller's copy, so that nothing it does to it reaches ours.
func clonePublic(pub crypto.PublicKey) crypto.PublicKey {
	if k, ok := pub.(*rsa.PublicKey); ok {
		return &rsa.PublicKey{N: new(big.Int).Set(k.N), E: k.E}
	}
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return pub
	}
	point, err := k.Bytes()
	if err != nil {
		return pub
	}
	clone, err := ecdsa.ParseUncompressedPublicKey(k.Curve, point)
	if err != nil {
		return pub
	}
	return clone
}

func parseRSA(modulus, exponent []byte) (*rsa.PublicKey, error) {
	e := new(big.Int).SetBytes(exponent)
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 {
		return nil, errors.New("CKA_PUBLIC_EXPONENT is not an odd number from 3 to 2^31")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(e.Int64())}, nil
}

// parseEC reads CKA_EC_PARAMS and CKA_EC_POINT. The point is to be wrapped in a
// DER OCTET STRING (PKCS#11 v2.40 mechanisms section 2.3.3); many tokens give it
// bare. Its length tells, because 0x04 begins both.
func parseEC(params, point []byte) (*ecdsa.PublicKey, error) {
	curve := parseCurve(params)
	if curve == nil {
		return nil, errors.New("CKA_EC_PARAMS name no NIST curve")
	}
	size := 1 + 2*((curve.Params().BitSize+7)/8)
	if len(point) != size {
		var bare []byte
		if rest, err := asn1.Unmarshal(point, &bare); err != nil || len(rest) > 0 {
			return nil, errors.New("CKA_EC_POINT is neither a point nor an OCTET STRING with one")
		}
		point = bare
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("CKA_EC_POINT is not an uncompressed point on %s", curve.Params().Name)
	}
	return pub, nil
}

// The object identifiers of RFC 5480 section 2.1.1.1, in DER.
var curves = []struct {
	curve elliptic.Curve
	oid   []byte
}{
	{elliptic.P256(), []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}},
	{elliptic.P384(), []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}},
	{elliptic.P521(), []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}},
}

func parseCurve(params []byte) elliptic.Curve {
	for _, c := range curves {
		if bytes.Equal(c.oid, params) {
			return c.curve
		}
	}
	return nil
}
