//go:build cgo

package pkcs11

import (
	"context"
	"fmt"
	"slices"
	"strings"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// Sign implements [signer.Signer].
func (s *Signer) Sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	sig, err := s.sign(ctx, key, signingInput)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: sign with key %q: %w", key.ID, err)
	}
	return sig, nil
}

func (s *Signer) sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	if _, err := signer.AlgorithmFor(key.Public, key.Algorithm); err != nil {
		return nil, err
	}
	mechanism, data := operation(key.Algorithm, signingInput)
	if mechanism == nil {
		return nil, fmt.Errorf("%w: the key names none", smartcred.ErrUnsupportedAlgorithm)
	}
	thumb, err := signer.Thumbprint(key.Public)
	if err != nil {
		return nil, err
	}
	size := key.Algorithm.SignatureSize(key.Public)
	return run(ctx, s, func(c *connection, session cryptoki.SessionHandle) ([]byte, error) {
		found, err := s.find(ctx, c, session, key.Version, thumb)
		if err != nil {
			return nil, err
		}
		if key.Algorithm != found.Algorithm {
			return nil, fmt.Errorf("%w: the key signs %s", smartcred.ErrUnsupportedAlgorithm, found.Algorithm)
		}
		if err := c.module.lib.SignInit(session, []*cryptoki.Mechanism{mechanism}, found.handle); err != nil {
			return nil, failed("begin the signature", err)
		}
		sig, err := c.module.lib.Sign(session, data)
		if err != nil {
			return nil, failed("sign", err)
		}
		if len(sig) != size {
			return nil, &smartcred.UnavailableError{Err: fmt.Errorf("%w: the token gave %d bytes in place of %d", signer.ErrBadSignature, len(sig), size)}
		}
		return sig, nil
	})
}

// find returns exactly the key that is meant: a version may have come to name
// another.
func (s *Signer) find(ctx context.Context, c *connection, session cryptoki.SessionHandle, version, thumb string) (tokenKey, error) {
	is := func(k tokenKey) bool {
		return k.thumb == thumb && (k.Version == version || strings.HasPrefix(k.Version, version+distinction))
	}
	c.mu.Lock()
	keys := c.keys
	c.mu.Unlock()
	if i := slices.IndexFunc(keys, is); i >= 0 {
		return keys[i], nil
	}
	keys, err := s.list(ctx, c, session)
	if err != nil {
		return tokenKey{}, err
	}
	if i := slices.IndexFunc(keys, is); i >= 0 {
		return keys[i], nil
	}
	return tokenKey{}, fmt.Errorf("version %q: %w in %s", version, smartcred.ErrNotFound, describeToken(c.slot, c.token))
}

// operation returns what the token is asked for; nil for an unknown algorithm.
func operation(alg signer.Algorithm, signingInput []byte) (*cryptoki.Mechanism, []byte) {
	digest := alg.Digest(signingInput)
	switch alg {
	case signer.RS256, signer.RS384, signer.RS512:
		return cryptoki.NewMechanism(cryptoki.CKM_RSA_PKCS, nil), append(slices.Clone(digestInfo[alg]), digest...)
	case signer.PS384:
		params := cryptoki.NewPSSParams(cryptoki.CKM_SHA384, cryptoki.CKG_MGF1_SHA384, rsaSaltSize)
		return cryptoki.NewMechanism(cryptoki.CKM_RSA_PKCS_PSS, params), digest
	case signer.ES256, signer.ES384:
		return cryptoki.NewMechanism(cryptoki.CKM_ECDSA, nil), digest
	default:
		return nil, nil
	}
}

const rsaSaltSize = 48 // as long as PS384's hash, RFC 7518 section 3.5

// digestInfo is the DER of a DigestInfo up to the digest (RFC 8017 section 9.2,
// note 1): CKM_RSA_PKCS pads and signs what it gets.
var digestInfo = map[signer.Algorithm][]byte{
	signer.RS256: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	signer.RS384: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	signer.RS512: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}
