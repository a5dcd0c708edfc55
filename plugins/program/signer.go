package program

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
	"github.com/smartcred/smartcred/signer"
)

// A programSigner is a Signer that a program is.
type programSigner struct {
	*runner
	algorithm signer.Algorithm // asked for; empty: as the keys are

	leftOut sync.Map // versions of keys that can't be used, which are told of once
}

var _ signer.Signer = (*programSigner)(nil)

// Keys implements [signer.Signer].
func (s *programSigner) Keys(ctx context.Context) ([]signer.Key, error) {
	keys, err := s.keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("program: list keys: %w", err)
	}
	return keys, nil
}

func (s *programSigner) keys(ctx context.Context) ([]signer.Key, error) {
	var listed []wire.Key
	err := s.call(ctx, wire.Request{Method: wire.Keys}, func(a *wire.Answer) (err error) {
		if listed, err = a.Keys(); err != nil {
			return err
		}
		for _, k := range listed {
			if err := s.clean(k.Version, k.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	keys := make([]signer.Key, 0, len(listed))
	var unusable error
	for _, k := range listed {
		key, err := s.key(k)
		if err != nil {
			unusable = cmp.Or(unusable, err)
			if _, told := s.leftOut.LoadOrStore(k.Version, true); !told {
				smartcred.Notify(ctx, s.observer, smartcred.Event{
					Kind: smartcred.EventKeyLeftOut, Version: k.Version, Backend: s.backend, Detail: "the program lists a key that can't sign here", Err: err,
				})
			}
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("plugin %s: %w", s.name, cmp.Or(unusable, smartcred.ErrNotFound))
	}
	return keys, nil
}

// key makes a Key of what the program says. What it claims of custody stands as
// its own word.
func (s *programSigner) key(k wire.Key) (key signer.Key, err error) {
	alg, err := signer.AlgorithmFor(k.Public, cmp.Or(s.algorithm, signer.Algorithm(k.Algorithm)))
	if err != nil {
		return key, err
	}
	key = signer.Key{ID: k.ID, Version: k.Version, Algorithm: alg, Public: k.Public, NotBefore: k.NotBefore, Custody: k.Custody}
	if key.ID == "" {
		if key.ID, err = signer.Thumbprint(k.Public); err != nil {
			return key, err
		}
	}
	key.Custody.Evidence = "plugin " + s.name + " says: " + cmp.Or(s.redactor.Clean(k.Custody.Evidence), k.Custody.Level.String())
	return key, nil
}

// Sign implements [signer.Signer]. Every signature is verified under key.Public
// before it is returned.
func (s *programSigner) Sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	signature, err := s.sign(ctx, key, signingInput)
	if err != nil {
		return nil, fmt.Errorf("program: sign with key %q: %w", key.ID, err)
	}
	return signature, nil
}

func (s *programSigner) sign(ctx context.Context, key signer.Key, signingInput []byte) (signature []byte, err error) {
	if key.Algorithm == "" {
		return nil, fmt.Errorf("%w: the key names none", smartcred.ErrUnsupportedAlgorithm)
	}
	if _, err := signer.AlgorithmFor(key.Public, key.Algorithm); err != nil {
		return nil, err
	}
	if key.Version == "" || len(key.Version) > wire.MaxName { // no program lists such
		return nil, smartcred.ErrNotFound
	}
	if len(signingInput) > maxInput {
		return nil, &smartcred.ConfigError{Problem: fmt.Sprintf("the signing input has more than %d bytes", maxInput)}
	}
	req := wire.Request{Method: wire.Sign, Key: key.Version, Algorithm: string(key.Algorithm), Input: signingInput, JTI: signer.AssertionID(ctx)}
	err = s.call(ctx, req, func(a *wire.Answer) (err error) {
		var der bool
		if signature, der, err = a.Signature(); err != nil || !der {
			return err
		}
		public, ok := key.Public.(*ecdsa.PublicKey)
		if !ok {
			return errors.New("its answer has a signature_der by an RSA key")
		}
		signature, err = signer.RawFromDER(public.Curve, signature)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := signer.Verify(key, signingInput, signature); err != nil {
		if public, ok := key.Public.(*ecdsa.PublicKey); ok {
			if _, notDER := signer.RawFromDER(public.Curve, signature); notDER == nil {
				err = fmt.Errorf("its answer has ASN.1 DER in signature, which belongs in signature_der: %w", err)
			}
		}
		return nil, fmt.Errorf("plugin %s: %w", s.name, err)
	}
	return signature, nil
}

// maxInput is the most that is sent to be signed: an assertion has some hundreds
// of bytes.
const maxInput = 64 << 10

// clean refuses names that hold a value of the program's environment: they go to
// logs and errors. A short value is in many names, and is no token.
func (r *runner) clean(names ...string) error {
	for _, name := range names {
		if r.unnamed.Clean(name) != name {
			return errors.New("its answer has a value of its environment in a name")
		}
	}
	return nil
}
