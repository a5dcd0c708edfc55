package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms below
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smartcred/smartcred"
)

// An Algorithm is a JWS signature algorithm by its RFC 7518 name.
type Algorithm string

// SMART App Launch asks every client for RS384 and ES384. The others are used
// only where they are asked for by name.
const (
	RS384 Algorithm = "RS384" // RSASSA-PKCS1-v1_5 with SHA-384, RSA of 2048 bits or more
	ES384 Algorithm = "ES384" // ECDSA on P-384 with SHA-384
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
	RS512 Algorithm = "RS512" // RSASSA-PKCS1-v1_5 with SHA-512
	PS384 Algorithm = "PS384" // RSASSA-PSS with SHA-384
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256
)

// RSA keys outside these sizes are refused: smaller ones are weak (RFC 7518
// section 3.3), larger ones take a server seconds to verify.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// ErrBadSignature says that a signature does not verify under the public half
// of the key that is said to have made it.
var ErrBadSignature = errors.New("signature does not verify")

// method returns golang-jwt's SigningMethod; nil for an unknown algorithm. It
// serves only to name alg and to assemble the signing input: golang-jwt's
// registry of methods is shared by the process and stays untouched.
func (a Algorithm) method() jwt.SigningMethod {
	switch a {
	case RS384:
		return jwt.SigningMethodRS384
	case ES384:
		return jwt.SigningMethodES384
	case RS256:
		return jwt.SigningMethodRS256
	case RS512:
		return jwt.SigningMethodRS512
	case PS384:
		return jwt.SigningMethodPS384
	case ES256:
		return jwt.SigningMethodES256
	default:
		return nil
	}
}

// Hash returns the hash that the algorithm signs; 0 for an unknown algorithm.
func (a Algorithm) Hash() crypto.Hash {
	switch a {
	case RS256, ES256:
		return crypto.SHA256
	case RS384, ES384, PS384:
		return crypto.SHA384
	case RS512:
		return crypto.SHA512
	default:
		return 0
	}
}

// curve returns the curve of an ES algorithm; nil for the others.
func (a Algorithm) curve() elliptic.Curve {
	switch a {
	case ES384:
		return elliptic.P384()
	case ES256:
		return elliptic.P256()
	default:
		return nil
	}
}

// SignerOpts returns what a [crypto.Signer] is given to sign by the algorithm:
// the hash, and for PS384 a salt as long as the hash (RFC 7518 section 3.5).
func (a Algorithm) SignerOpts() crypto.SignerOpts {
	if a == PS384 {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash()}
	}
	return a.Hash()
}

// Digest returns the algorithm's hash of signingInput; nil for an unknown
// algorithm. Backends that sign digests send this.
func (a Algorithm) Digest(signingInput []byte) []byte {
	h := a.Hash()
	if h == 0 {
		return nil
	}
	d := h.New()
	d.Write(signingInput)
	return d.Sum(nil)
}

// SignatureSize returns how many bytes a JWS signature by this algorithm and
// key has: the modulus' size for RSA, 96 for ES384, 64 for ES256.
func (a Algorithm) SignatureSize(pub crypto.PublicKey) int {
	if c := a.curve(); c != nil {
		return 2 * coordinateSize(c)
	}
	if k, ok := pub.(*rsa.PublicKey); ok {
		return k.Size()
	}
	return 0
}

// AlgorithmFor returns the algorithm that a key signs with: asked, if it fits
// the key; where asked is empty, RS384 for RSA of 2048 to 8192 bits and ES384
// for P-384. Anything else is [smartcred.ErrUnsupportedAlgorithm] with the
// reason.
func AlgorithmFor(pub crypto.PublicKey, asked Algorithm) (Algorithm, error) {
	if asked != "" && asked.Hash() == 0 {
		return "", unsupported("no such algorithm here; there are RS384, ES384, RS256, RS512, PS384, ES256")
	}
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			return "", unsupported("an RSA key without a modulus")
		}
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return "", unsupported("RSA key of %d bits; it takes %d to %d", bits, minRSABits, maxRSABits)
		}
		if asked == "" {
			return RS384, nil
		}
		if asked.curve() != nil {
			return "", unsupported("%s needs an elliptic curve key; this one is RSA", asked)
		}
		return asked, nil
	case *ecdsa.PublicKey:
		if k == nil || k.Curve == nil {
			return "", unsupported("an elliptic curve key without a curve")
		}
		name := k.Curve.Params().Name
		if asked == "" {
			if k.Curve == elliptic.P384() {
				return ES384, nil
			}
			if k.Curve == elliptic.P256() {
				return "", unsupported("key on P-256; SMART servers take P-384 (ES256 only where it is asked for)")
			}
			return "", unsupported("key on %s; SMART servers take P-384", name)
		}
		if asked.curve() == nil {
			return "", unsupported("%s needs an RSA key; this one is on the curve %s", asked, name)
		}
		if k.Curve != asked.curve() {
			return "", unsupported("%s needs a key on %s; this one is on %s", asked, asked.curve().Params().Name, name)
		}
		return asked, nil
	default:
		return "", unsupported("a key of type %T; it takes RSA or an elliptic curve", pub)
	}
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", smartcred.ErrUnsupportedAlgorithm, fmt.Sprintf(format, args...))
}

// Verify reports whether sig is key's JWS signature of signingInput: nil, or
// [ErrBadSignature], or [smartcred.ErrUnsupportedAlgorithm] where the key's
// algorithm does not fit it. ES signatures are raw R‖S of exactly the right
// length (RFC 7518 section 3.4), PS384's salt is as long as its hash.
func Verify(key Key, signingInput, sig []byte) error {
	if err := key.Check(); err != nil {
		return fmt.Errorf("signer: verify signature: %w", err)
	}
	alg := key.Algorithm
	ok := len(sig) == alg.SignatureSize(key.Public)
	if ok {
		digest := alg.Digest(signingInput)
		switch pub := key.Public.(type) {
		case *rsa.PublicKey:
			if alg == PS384 {
				ok = rsa.VerifyPSS(pub, alg.Hash(), digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
			} else {
				ok = rsa.VerifyPKCS1v15(pub, alg.Hash(), digest, sig) == nil
			}
		case *ecdsa.PublicKey:
			half := len(sig) / 2
			ok = ecdsa.Verify(pub, digest, new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:]))
		}
	}
	if !ok {
		return fmt.Errorf("signer: verify signature of key %q: %w", key.ID, ErrBadSignature)
	}
	return nil
}

// advertised reports whether a server that names names takes a; a server that
// names none takes any.
func (a Algorithm) advertised(names []string) bool {
	return len(names) == 0 || slices.Contains(names, string(a))
}
