package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
)

// parseJWKFile returns the private keys of a JWK or JWK Set, RFC 7517. Members
// of a set that can't sign (public only, for encryption, an algorithm that was
// not asked for, a type not known here: RFC 7517 section 5) are left out as long
// as one can; what is malformed makes the file so.
func parseJWKFile(data []byte, asked Algorithm) ([]localKey, []leftOutKey, error) {
	object, err := readObject(data)
	if err != nil {
		return nil, nil, err
	}
	if object.has("kty") {
		key, err := parseJWK(object, asked)
		if err != nil {
			return nil, nil, err
		}
		return []localKey{key}, nil, nil
	}
	members, state := object.Array("keys")
	if state != strictjson.Present {
		return nil, nil, malformed(`neither a JWK (no "kty") nor a JWK Set (no array "keys")`)
	}
	if len(members) == 0 {
		return nil, nil, refused("the JWK Set is empty")
	}
	var keys []localKey
	var leftOut []leftOutKey
	kids, thumbs := map[string]bool{}, map[string]bool{}
	for i, raw := range members {
		member, err := readObject(raw)
		if err != nil {
			return nil, nil, err
		}
		kid, err := member.text("kid")
		if err != nil {
			return nil, nil, err
		}
		if kid != "" && kids[kid] {
			return nil, nil, malformed("the JWK Set has a kid twice")
		}
		kids[kid] = true
		key, err := parseJWK(member, asked)
		switch {
		case errors.Is(err, smartcred.ErrUnsupportedAlgorithm) || errors.Is(err, errNotForSigning):
			name := kid
			if name == "" {
				name = fmt.Sprintf("number %d of the set", i+1)
			}
			leftOut = append(leftOut, leftOutKey{name: name, why: err})
			continue
		case err != nil:
			return nil, nil, err
		case thumbs[key.key.Version]:
			return nil, nil, malformed("the JWK Set has a key twice")
		}
		thumbs[key.key.Version] = true
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		var reasons []error
		for _, l := range leftOut {
			reasons = append(reasons, fmt.Errorf("key %q: %w", l.name, l.why))
		}
		return nil, nil, errors.Join(reasons...)
	}
	return keys, leftOut, nil
}

// errNotForSigning is a JWK that is well formed and has other uses.
var errNotForSigning = fmt.Errorf("%w: not a private key for signatures", smartcred.ErrInvalidConfig)

func parseJWK(object jsonObject, asked Algorithm) (localKey, error) {
	var kty, kid, use, alg string
	for _, m := range []struct {
		name string
		to   *string
	}{{"kty", &kty}, {"kid", &kid}, {"use", &use}, {"alg", &alg}} {
		var err error
		if *m.to, err = object.text(m.name); err != nil {
			return localKey{}, err
		}
	}
	var private crypto.Signer
	var err error
	switch kty {
	case "EC":
		private, err = ecFromJWK(object)
	case "RSA":
		private, err = rsaFromJWK(object)
	case "":
		err = malformed(`a JWK without "kty"`)
	default:
		err = unsupported("a JWK of type %q; it takes RSA or EC", kty)
	}
	if err != nil {
		return localKey{}, err
	}
	if use != "" && use != "sig" {
		return localKey{}, fmt.Errorf(`%w: its "use" is not "sig"`, errNotForSigning)
	}
	switch ops, state := object.Strings("key_ops"); {
	case state == strictjson.Absent:
	case state != strictjson.Present:
		return localKey{}, malformed(`"key_ops" is not a list of strings`)
	case !slices.Contains(ops, "sign"):
		return localKey{}, fmt.Errorf(`%w: its "key_ops" lack "sign"`, errNotForSigning)
	}
	key, err := newLocalKey(private, asked)
	if err != nil {
		return localKey{}, err
	}
	if alg != "" && alg != string(key.key.Algorithm) {
		return localKey{}, unsupported(`its "alg" is %q, and it would sign with %s: set the algorithm, or correct the JWK`, alg, key.key.Algorithm)
	}
	if kid != "" {
		key.key.ID = kid
	}
	return key, nil
}

// ecFromJWK follows RFC 7518 section 6.2: coordinates and d in full length.
func ecFromJWK(object jsonObject) (crypto.Signer, error) {
	crv, err := object.text("crv")
	if err != nil {
		return nil, err
	}
	var curve elliptic.Curve
	switch crv {
	case "P-384":
		curve = elliptic.P384()
	case "P-256":
		curve = elliptic.P256()
	case "":
		return nil, malformed(`an EC key without "crv"`)
	default:
		return nil, unsupported("a key on the curve %q; SMART servers take P-384", crv)
	}
	size := coordinateSize(curve)
	point := []byte{4} // uncompressed
	for _, name := range []string{"x", "y"} {
		b, err := object.bytes(name)
		if err != nil {
			return nil, err
		}
		if len(b) != size {
			return nil, malformed("%q does not have %d bytes", name, size)
		}
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, malformed("x and y are not on the curve")
	}
	if !object.has("d") {
		return nil, fmt.Errorf("%w: it is public only", errNotForSigning)
	}
	d, err := object.bytes("d")
	if err != nil {
		return nil, err
	}
	if len(d) != size {
		return nil, malformed(`"d" does not have %d bytes`, size)
	}
	private, err := ecdsa.ParseRawPrivateKey(curve, d)
	if err != nil || !private.PublicKey.Equal(public) {
		return nil, malformed(`"d" does not belong to x and y`)
	}
	return private, nil
}

// A jsonObject is a JSON object as written: members in exactly that case, none
// twice.
type jsonObject struct{ *strictjson.Obj }

func readObject(data []byte) (jsonObject, error) {
	o, err := strictjson.Object(data)
	switch {
	case err != nil:
		return jsonObject{}, malformed("%s", err)
	case len(o.Duplicates) > 0:
		return jsonObject{}, malformed("the JSON object has a member twice")
	}
	return jsonObject{o}, nil
}

func (o jsonObject) has(name string) bool {
	_, ok := o.Raw(name)
	return ok
}

// text returns a member that is a non-empty string; "" if it is not there.
func (o jsonObject) text(name string) (string, error) {
	s, state := o.String(name)
	if state != strictjson.Absent && s == "" {
		return "", malformed("%q is not a non-empty string", name)
	}
	return s, nil
}

// bytes returns a member that has to be base64url without padding.
func (o jsonObject) bytes(name string) ([]byte, error) {
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || strings.ContainsAny(s, "\r\n") {
		return nil, malformed("%q is missing or not base64url without padding", name)
	}
	return b, nil
}
