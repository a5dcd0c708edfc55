package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
)

const defaultConcurrency = 16

// CryptoSignerOptions describe the key of a [crypto.Signer]. The zero value and
// nil are the safe defaults.
type CryptoSignerOptions struct {
	// KeyID is the kid; empty: the RFC 7638 thumbprint.
	KeyID string
	// Version is the backend's handle; empty: the first 16 characters of the thumbprint.
	Version string
	// Algorithm is what the key signs with; empty: RS384 or ES384, as the key is.
	Algorithm Algorithm
	// NotBefore is when the key may begin to sign, see [Key].
	NotBefore time.Time
	// Custody is what the caller knows of the private key; zero: exportable for
	// *rsa.PrivateKey and *ecdsa.PrivateKey, else unknown.
	Custody Custody
	// Concurrency is how many signatures are made at once; 0: 16. 1 serves a
	// crypto.Signer that is not safe for concurrent use.
	Concurrency int
}

// A CryptoSigner is a [Signer] over a [crypto.Signer], so that any key
// management library with one plugs in.
type CryptoSigner struct {
	key     Key
	private func() crypto.Signer // in a closure, so that printing does not reach it
	local   bool                 // signs in this process, quickly
	slots   chan struct{}

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

// FromCryptoSigner returns a Signer that signs with s. The digest is computed
// here; ECDSA answers are converted from DER, strictly; PS384 asks for a salt as
// long as the hash.
//
// A crypto.Signer has no context and can't be interrupted. Sign returns when its
// context ends; the call under way goes on in its goroutine, keeps its place
// among the Concurrency ones, and its answer is dropped. Close waits for such
// calls, then closes s if that is an [io.Closer].
//
// An error of s that matches one of smartcred's sentinels is passed on as such.
// For others the package can't know whether asking again helps: wrap s where
// its library tells.
func FromCryptoSigner(s crypto.Signer, opts *CryptoSignerOptions) (*CryptoSigner, error) {
	if s == nil {
		return nil, fmt.Errorf("signer: adapt crypto.Signer: %w", &smartcred.ConfigError{Option: "signer", Problem: "there is none"})
	}
	var o CryptoSignerOptions
	if opts != nil {
		o = *opts
	}
	_, isRSA := s.(*rsa.PrivateKey)
	_, isEC := s.(*ecdsa.PrivateKey)
	local := isRSA || isEC
	if o.Custody == (Custody{}) && local {
		o.Custody = Custody{Level: CustodyExportable, Evidence: "private key in this process"}
	}
	key, err := describe(s.Public(), o.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("signer: adapt crypto.Signer: %w", err)
	}
	if o.KeyID != "" {
		key.ID = o.KeyID
	}
	if o.Version != "" {
		key.Version = o.Version
	}
	key.NotBefore, key.Custody = o.NotBefore, o.Custody
	if o.Concurrency <= 0 {
		o.Concurrency = defaultConcurrency
	}
	return &CryptoSigner{
		key: key, local: local, slots: make(chan struct{}, o.Concurrency),
		private: func() crypto.Signer { return s },
	}, nil
}

// describe returns the Key of a public key, named by its thumbprint.
func describe(pub crypto.PublicKey, asked Algorithm) (Key, error) {
	alg, err := AlgorithmFor(pub, asked)
	if err != nil {
		return Key{}, err
	}
	thumb, err := Thumbprint(pub)
	if err != nil {
		return Key{}, err
	}
	return Key{ID: thumb, Version: thumb[:16], Algorithm: alg, Public: pub}, nil
}

// Keys implements [Signer].
func (c *CryptoSigner) Keys(ctx context.Context) ([]Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("signer: list keys: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("signer: list keys: %w", smartcred.ErrClosed)
	}
	return []Key{c.key}, nil
}

// Sign implements [Signer].
func (c *CryptoSigner) Sign(ctx context.Context, key Key, signingInput []byte) ([]byte, error) {
	sig, err := c.sign(ctx, key, signingInput)
	if err != nil {
		return nil, fmt.Errorf("signer: sign with key %q: %w", c.key.ID, err)
	}
	return sig, nil
}

func (c *CryptoSigner) sign(ctx context.Context, key Key, signingInput []byte) ([]byte, error) {
	if key.Version != c.key.Version {
		return nil, fmt.Errorf("version %q: %w", key.Version, smartcred.ErrNotFound)
	}
	if key.Algorithm != c.key.Algorithm {
		return nil, otherAlgorithm(key, c.key)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := c.begin(); err != nil {
		<-c.slots
		return nil, err
	}
	end := func() { <-c.slots; c.calls.Done() }
	if err := ctx.Err(); err != nil || c.local {
		defer end()
		if err != nil {
			return nil, err
		}
		return signLocally(c.private(), c.key, signingInput)
	}
	type answer struct {
		sig []byte
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		defer end()
		sig, err := signLocally(c.private(), c.key, signingInput)
		answers <- answer{sig, err}
	}()
	select {
	case a := <-answers:
		return a.sig, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin counts a call in, so that Close waits for it.
func (c *CryptoSigner) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return smartcred.ErrClosed
	}
	c.calls.Add(1)
	return nil
}

// Close refuses further signatures, waits for those under way and closes the
// crypto.Signer if that is an [io.Closer]. A second call returns what the first did.
func (c *CryptoSigner) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.calls.Wait()
		if closer, ok := c.private().(io.Closer); ok {
			c.closeErr = closer.Close()
		}
	})
	return c.closeErr
}

func otherAlgorithm(asked, have Key) error {
	return unsupported("the key signs %s, and %q was asked for", have.Algorithm, string(asked.Algorithm))
}

// signLocally returns the JWS signature that s makes as key.
func signLocally(s crypto.Signer, key Key, signingInput []byte) ([]byte, error) {
	sig, err := s.Sign(rand.Reader, key.Algorithm.Digest(signingInput), key.Algorithm.SignerOpts())
	if err != nil {
		return nil, err
	}
	if curve := key.Algorithm.curve(); curve != nil {
		return RawFromDER(curve, sig)
	}
	if want := key.Algorithm.SignatureSize(key.Public); len(sig) != want {
		return nil, fmt.Errorf("%w: it has %d bytes in place of %d", ErrBadSignature, len(sig), want)
	}
	return sig, nil
}
