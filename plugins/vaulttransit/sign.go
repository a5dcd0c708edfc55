package vaulttransit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/vault"
	"github.com/smartcred/smartcred/signer"
)

// What Vault says, with 400 or 500, where a version can't sign.
const (
	saysNoKey   = "signing key not found"
	saysBelow   = "less than the minimum encryption key version"
	saysAbove   = "higher than the latest key version"
	saysTrimmed = "no such key version"
	saysPublic  = "does not contain a private part"
)

var errSignature = errors.New("the answer holds no signature of the version asked for")

// Sign implements [signer.Signer].
func (s *Signer) Sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	sig, err := s.sign(ctx, key, signingInput)
	if err != nil {
		return nil, fmt.Errorf("vaulttransit: sign with key %q version %q: %w", s.key, key.Version, err)
	}
	return sig, nil
}

func (s *Signer) sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	version, err := strconv.Atoi(key.Version)
	if err != nil || version < 1 || strconv.Itoa(version) != key.Version {
		return nil, fmt.Errorf("%w: no such version", smartcred.ErrNotFound)
	}
	if err := key.Check(); err != nil {
		return nil, err
	}
	// Vault answers 500 to an RSA digest of another length, and its client would
	// send that again: what is sent is a digest of the right one by construction.
	data := map[string]any{
		"input":                base64.StdEncoding.EncodeToString(key.Algorithm.Digest(signingInput)),
		"prehashed":            true,
		"hash_algorithm":       hashName(key.Algorithm),
		"marshaling_algorithm": "jws",
		"key_version":          version,
	}
	switch key.Algorithm {
	case signer.RS256, signer.RS384, signer.RS512:
		data["signature_algorithm"] = "pkcs1v15" // Vault's own choice would be PSS
	case signer.PS384:
		data["signature_algorithm"], data["salt_length"] = "pss", "hash"
	}
	answer, err := s.session.Write(ctx, s.mount+"/sign/"+s.key, data)
	if err != nil {
		return nil, refusal(err)
	}
	text, _ := answer.Data["signature"].(string)
	sig, err := parseSignature(text, version)
	if err != nil || len(sig) != key.Algorithm.SignatureSize(key.Public) {
		return nil, &smartcred.UnavailableError{Err: errSignature}
	}
	return sig, nil
}

func hashName(a signer.Algorithm) string {
	switch a {
	case signer.RS256, signer.ES256:
		return "sha2-256"
	case signer.RS512:
		return "sha2-512"
	default:
		return "sha2-384"
	}
}

// refusal reads what Vault means by 400 and 500.
func refusal(err error) error {
	var r *vault.Refusal
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.Says(saysNoKey):
		return fmt.Errorf("%w: Vault has no such key at path %q", smartcred.ErrNotFound, r.Path)
	case r.Says(saysBelow):
		return fmt.Errorf("%w: the version is below the key's min_encryption_version: it is revoked", smartcred.ErrDenied)
	case r.Says(saysAbove) || r.Says(saysTrimmed):
		return fmt.Errorf("%w: the key has no such version", smartcred.ErrNotFound)
	case r.Says(saysPublic):
		return fmt.Errorf("%w: the version was imported without its private half", smartcred.ErrDenied)
	default:
		return err
	}
}

// parseSignature reads vault:vN:SIGNATURE, where SIGNATURE is base64url without
// padding, as marshaling_algorithm=jws gives it for every type of key.
func parseSignature(text string, version int) ([]byte, error) {
	rest, ok := strings.CutPrefix(text, "vault:v")
	if !ok {
		return nil, errSignature
	}
	number, encoded, ok := strings.Cut(rest, ":")
	if !ok || number != strconv.Itoa(version) {
		return nil, errSignature
	}
	sig, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, errSignature
	}
	return sig, nil
}
