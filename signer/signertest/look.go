package signertest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/conformance"
	"github.com/smartcred/smartcred/signer"
)

// input is as long as an assertion's signing input is.
var input = bytes.Repeat([]byte("eyJhbGciOiJFUzM4NCJ9."), 20)

func lookAtList(ctx context.Context, s *subject) error {
	keys, err := s.keys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return errors.New("the list is empty, and no error: no key at all is smartcred.ErrNotFound")
	}
	versions, kids := map[string]bool{}, map[string]bool{}
	for i, k := range keys {
		if k.Algorithm == "" {
			return fmt.Errorf("key %d names no algorithm", i)
		}
		if _, err := signer.AlgorithmFor(k.Public, k.Algorithm); err != nil {
			return fmt.Errorf("key %d with version %q: %w", i, k.Version, err)
		}
		if k.Version == "" {
			return fmt.Errorf("key %d has no version to find it again by", i)
		}
		if versions[k.Version] {
			return fmt.Errorf("two keys have the version %q", k.Version)
		}
		if k.ID != "" && kids[k.ID] {
			return fmt.Errorf("two keys have the kid %q", k.ID)
		}
		versions[k.Version], kids[k.ID] = true, true
		if k.Custody.Level != signer.CustodyUnknown && k.Custody.Evidence == "" {
			return fmt.Errorf("key with version %q is %s, and no evidence is given in words", k.Version, k.Custody.Level)
		}
	}
	again, err := s.keys(ctx)
	if err != nil {
		return err
	}
	return sameKeys(keys, again)
}

// sameKeys says how two lists of an unchanged backend differ in keys that both have.
func sameKeys(first, second []signer.Key) error {
	for _, a := range first {
		public, ok := a.Public.(interface{ Equal(crypto.PublicKey) bool })
		if !ok {
			continue
		}
		for _, b := range second {
			if !public.Equal(b.Public) {
				continue
			}
			for _, what := range []struct {
				name   string
				differ bool
			}{
				{"kid", a.ID != b.ID}, {"version", a.Version != b.Version},
				{"algorithm", a.Algorithm != b.Algorithm}, {"NotBefore", !a.NotBefore.Equal(b.NotBefore)},
			} {
				if what.differ {
					return fmt.Errorf("two lists of an unchanged backend differ in the %s of the key with version %q", what.name, a.Version)
				}
			}
		}
	}
	return nil
}

// ready returns the keys whose time has come, newest first; all, if there are none.
func (s *subject) ready(ctx context.Context) ([]signer.Key, error) {
	keys, err := s.keys(ctx)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("the list of keys is empty")
	}
	var ready []signer.Key
	now := time.Now()
	for _, k := range keys {
		if !k.NotBefore.After(now) {
			ready = append(ready, k)
		}
	}
	if len(ready) == 0 {
		return keys, nil
	}
	return ready, nil
}

func lookAtSignatures(ctx context.Context, s *subject) error {
	keys, err := s.ready(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		for _, text := range [][]byte{input, []byte("a"), bytes.Repeat(input, 100)} {
			if err := s.signs(ctx, k, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSignature says what is wrong with a signature, in the order in which it
// helps most.
func checkSignature(key signer.Key, input, sig []byte) error {
	want := key.Algorithm.SignatureSize(key.Public)
	if len(sig) != want {
		var der struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(sig, &der); err == nil && len(rest) == 0 {
			return fmt.Errorf("the signature is ASN.1 DER of %d bytes; it must be R and S, left-padded, %d bytes: see signer.RawFromDER", len(sig), want)
		}
		return fmt.Errorf("the signature has %d bytes; %s of this key has %d", len(sig), key.Algorithm, want)
	}
	if err := signer.Verify(key, input, sig); err != nil {
		if k, ok := key.Public.(*rsa.PublicKey); ok && key.Algorithm != signer.PS384 {
			opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto, Hash: key.Algorithm.Hash()}
			if rsa.VerifyPSS(k, key.Algorithm.Hash(), key.Algorithm.Digest(input), sig, opts) == nil {
				return fmt.Errorf("the signature is RSASSA-PSS; %s is RSASSA-PKCS1-v1_5", key.Algorithm)
			}
		}
		return fmt.Errorf("the signature by version %q does not verify under that key's public half: another key signed, or another digest was signed", key.Version)
	}
	return nil
}

func lookAtUnknownKey(ctx context.Context, s *subject) error {
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	for _, version := range []string{"no-such-version", "999999", ""} {
		key := key
		key.Version = version
		_, err := s.sign(ctx, key, input)
		if err := conformance.Answer(err, smartcred.ErrNotFound, smartcred.ErrDenied); err != nil {
			return fmt.Errorf("version %q: %w", version, err)
		}
	}
	return nil
}

func lookAtAlgorithms(ctx context.Context, s *subject) error {
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	foreign := signer.RS384
	if _, ok := key.Public.(*rsa.PublicKey); ok {
		foreign = signer.ES384
	}
	for _, alg := range []signer.Algorithm{"HS256", "none", "", foreign} {
		key := key
		key.Algorithm = alg
		_, err := s.sign(ctx, key, input)
		if err := conformance.Answer(err, smartcred.ErrUnsupportedAlgorithm); err != nil {
			return fmt.Errorf("algorithm %q: %w", string(alg), err)
		}
	}
	return nil
}

func lookAtCallers(ctx context.Context, s *subject) error {
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	return conformance.All(s.callers, func(i int) error {
		if i%10 == 0 {
			if _, err := s.keys(ctx); err != nil {
				return err
			}
		}
		return s.signs(ctx, key, fmt.Appendf(nil, "caller %d", i))
	})
}

func lookAtAliasing(ctx context.Context, s *subject) error {
	keys, err := s.keys(ctx)
	if err != nil {
		return err
	}
	for i := range keys {
		keys[i] = signer.Key{}
	}
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	if key.Version == "" || key.Public == nil {
		return errors.New("the list is shared: a caller that wrote to it changed what the next one gets")
	}
	given := bytes.Clone(input)
	sig, err := s.sign(ctx, key, given)
	if err != nil {
		return err
	}
	if !bytes.Equal(given, input) {
		return errors.New("the signing input was written to")
	}
	kept := bytes.Clone(sig)
	clear(given)
	// Another text: of the same one some signatures are the same.
	other := []byte("another text")
	second, err := s.sign(ctx, key, other)
	if err != nil {
		return err
	}
	if !bytes.Equal(sig, kept) {
		return errors.New("the signature is shared: the next call wrote over it")
	}
	clear(sig)
	return checkSignature(key, other, second)
}

func lookAtEndedContext(ctx context.Context, s *subject) error {
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	if err := conformance.CancelledBefore(ctx, func(ctx context.Context) error { _, err := s.keys(ctx); return err }); err != nil {
		return fmt.Errorf("in Keys: %w", err)
	}
	if err := conformance.CancelledBefore(ctx, func(ctx context.Context) error { _, err := s.sign(ctx, key, input); return err }); err != nil {
		return fmt.Errorf("in Sign: %w", err)
	}
	return nil
}
