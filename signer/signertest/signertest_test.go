package signertest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// A store is a backend in memory, with a fault where a test wants one.
type store struct {
	fault string

	mu       sync.Mutex
	keys     []signer.Key // newest first
	private  map[string]*ecdsa.PrivateKey
	disabled map[string]bool
	denied   bool
	stopped  bool
	garbled  bool
	stalled  chan struct{} // closed when the backend answers
}

const token = "kit-backend-token-0123456789abcdef"

func newStore(t *testing.T, fault string) *store {
	s := &store{fault: fault, private: map[string]*ecdsa.PrivateKey{}, disabled: map[string]bool{}, stalled: make(chan struct{})}
	close(s.stalled)
	s.add(t)
	return s
}

func (s *store) add(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	thumb, err := signer.Thumbprint(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key := signer.Key{
		ID: thumb, Version: fmt.Sprint(len(s.keys) + 1), Algorithm: signer.ES384, Public: &private.PublicKey,
		Custody: signer.Custody{Level: signer.CustodyGenerated, Evidence: "made in the test's store"},
	}
	switch s.fault {
	case "kid moves":
		key.ID = "current"
		if len(s.keys) > 0 {
			s.keys[0].ID = thumb
		}
	case "no version":
		key.Version = ""
	case "no evidence":
		key.Custody.Evidence = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.private[key.Version] = private
	if s.fault == "oldest first" {
		s.keys = append(s.keys, key)
		return
	}
	s.keys = append([]signer.Key{key}, s.keys...)
}

func (s *store) harness() *Harness {
	set := func(field *bool) func(*testing.T) func() {
		return func(*testing.T) func() {
			s.put(field, true)
			return func() { s.put(field, false) }
		}
	}
	return &Harness{
		Open:   func(*testing.T) signer.Signer { return &client{store: s, done: make(chan struct{})} },
		Rotate: s.add,
		Disable: func(_ *testing.T, version string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.disabled[version] = true
		},
		Deny: set(&s.denied), Stop: set(&s.stopped), Garble: set(&s.garbled),
		Stall: func(*testing.T) func() {
			stalled := make(chan struct{})
			s.mu.Lock()
			defer s.mu.Unlock()
			s.stalled = stalled
			return func() { close(stalled) }
		},
		Secrets: []string{token},
	}
}

func (s *store) put(field *bool, v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*field = v
}

// A client is a Signer over the store.
type client struct {
	store  *store
	cached []signer.Key
	lists  int
	last   []byte

	mu     sync.Mutex
	done   chan struct{}
	closed bool
}

// ask is what every call begins with.
func (c *client) ask(ctx context.Context) error {
	s := c.store
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if s.fault == "takes its time to see that a context ended" {
		<-time.After(300 * time.Millisecond)
	}
	if closed && s.fault != "works after Close" {
		return smartcred.ErrClosed
	}
	if err := ctx.Err(); err != nil && s.fault != "ignores ended contexts" {
		return err
	}
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if s.fault == "ignores contexts that end" {
		<-stalled
	} else {
		select {
		case <-stalled:
		case <-ctx.Done():
			if s.fault == "takes its time to end" {
				<-time.After(300 * time.Millisecond)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil && s.fault != "ignores ended contexts" {
		if s.fault == "loses the context's error" {
			return smartcred.ErrUnavailable
		}
		return err
	}
	switch {
	case s.denied && s.fault == "denial is an outage":
		return &smartcred.UnavailableError{Err: errors.New("403")}
	case s.denied:
		return smartcred.ErrDenied
	case s.stopped && s.fault == "outage is an answer":
		return smartcred.ErrNotFound
	case s.stopped:
		return &smartcred.UnavailableError{Err: errors.New("connection refused")}
	case s.garbled && s.fault == "error holds what was answered":
		return &smartcred.UnavailableError{Err: errors.New("unexpected answer: Authorization: Bearer " + token)}
	case s.garbled:
		return &smartcred.UnavailableError{Err: errors.New("the answer is no JSON")}
	}
	return nil
}

func (c *client) Keys(ctx context.Context) ([]signer.Key, error) {
	if err := c.ask(ctx); err != nil {
		return nil, err
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	switch c.store.fault {
	case "empty list":
		return nil, nil
	case "shared list":
		return c.store.keys, nil
	case "cached list":
		if c.cached == nil {
			c.cached = slices.Clone(c.store.keys)
		}
		return slices.Clone(c.cached), nil
	case "kid is made anew", "version is made anew", "start is made anew":
		c.lists++
		keys := slices.Clone(c.store.keys)
		for i := range keys {
			switch c.store.fault {
			case "kid is made anew":
				keys[i].ID = fmt.Sprint("kid-", i, "-", c.lists)
			case "version is made anew":
				keys[i].Version = fmt.Sprint("version-", i, "-", c.lists)
			case "start is made anew":
				keys[i].NotBefore = time.Now().Add(time.Hour)
			}
		}
		return keys, nil
	case "private halves":
		keys := slices.Clone(c.store.keys)
		for i := range keys {
			keys[i].Public = c.store.private[keys[i].Version]
		}
		return keys, nil
	}
	return slices.Clone(c.store.keys), nil
}

func (c *client) Sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	if err := c.ask(ctx); err != nil {
		return nil, err
	}
	s := c.store
	s.mu.Lock()
	private := s.private[key.Version]
	disabled := s.disabled[key.Version]
	newest := s.private[s.keys[0].Version]
	s.mu.Unlock()
	switch {
	case s.fault == "newest key signs":
		private = newest
	case private == nil && s.fault == "unknown key is an outage":
		return nil, smartcred.ErrUnavailable
	case private == nil && s.fault == "unknown key is untyped":
		return nil, errors.New("no such key")
	case private == nil:
		return nil, smartcred.ErrNotFound
	case disabled && s.fault != "disabled key signs":
		return nil, smartcred.ErrDenied
	}
	if key.Algorithm != signer.ES384 && s.fault != "any algorithm" {
		return nil, smartcred.ErrUnsupportedAlgorithm
	}
	digest := signer.ES384.Digest(signingInput)
	if s.fault == "digest of a digest" {
		digest = signer.ES384.Digest(digest)
	}
	random := rand.Reader
	if s.fault == "shared signature, by RFC 6979" {
		random = nil // by RFC 6979 a text has one signature
	}
	der, err := private.Sign(random, digest, crypto.SHA384)
	if err != nil || s.fault == "DER" {
		return der, err
	}
	if s.fault == "writes to its input" {
		clear(signingInput)
	}
	sig, err := signer.RawFromDER(elliptic.P384(), der)
	if strings.HasPrefix(s.fault, "shared signature") {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.last = append(c.last[:0], sig...)
		return c.last, err
	}
	return sig, err
}

func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && c.store.fault == "second Close fails" {
		return errors.New("closed already")
	}
	c.closed = true
	if c.store.fault == "leaves a goroutine" {
		go func() { <-c.done }()
	}
	return nil
}

func TestRunPassesAGoodBackend(t *testing.T) {
	Run(t, func(t *testing.T) *Harness { return newStore(t, "").harness() })
}

func TestCheckPassesAGoodBackend(t *testing.T) {
	if err := Check(t.Context(), newStore(t, "").harness().Open(t)); err != nil {
		t.Error(err)
	}
}

// brokenBackends are the promises that each fault breaks, with the words that the
// author of the backend needs.
var brokenBackends = map[string]struct{ promise, says string }{
	"empty list":                                 {"Keys", "the list is empty"},
	"private halves":                             {"Keys", "takes RSA or an elliptic curve"},
	"no version":                                 {"Keys", "has no version"},
	"no evidence":                                {"Keys", "no evidence is given in words"},
	"DER":                                        {"Signature", "is ASN.1 DER of"},
	"digest of a digest":                         {"Signature", "another digest was signed"},
	"unknown key is an outage":                   {"UnknownKey", "says that it could not be asked"},
	"unknown key is untyped":                     {"UnknownKey", `none that errors.Is "not found" or "denied": no such key`},
	"any algorithm":                              {"UnknownAlgorithm", `algorithm "HS256": it did not fail`},
	"shared list":                                {"Aliasing", "the list is shared"},
	"shared signature":                           {"Aliasing", "the next call wrote over it"},
	"shared signature, by RFC 6979":              {"Aliasing", "the next call wrote over it"},
	"kid is made anew":                           {"Keys", "differ in the kid"},
	"version is made anew":                       {"Keys", "differ in the version"},
	"start is made anew":                         {"Keys", "differ in the NotBefore"},
	"writes to its input":                        {"Aliasing", "the signing input was written to"},
	"ignores ended contexts":                     {"ContextEndedBefore", "did not fail although its context had ended"},
	"ignores contexts that end":                  {"ContextEndsDuring", "it was not back 3s after its context ended"},
	"takes its time to end":                      {"ContextEndsDuring", "100ms is the most"},
	"takes its time to see that a context ended": {"ContextEndedBefore", "100ms is the most"},
	"leaves a goroutine":                         {"Goroutines", "goroutines were there before"},
	"loses the context's error":                  {"ContextEndsDuring", "none that errors.Is context.Canceled"},
	"cached list":                                {"Rotation", "the list is cached"},
	"oldest first":                               {"Rotation", "is not the first of the list"},
	"kid moves":                                  {"Rotation", "kid of the old one"},
	"newest key signs":                           {"Rotation", "another key signed"},
	"disabled key signs":                         {"Disabled", "it did not fail"},
	"denial is an outage":                        {"Denied", "says that it could not be asked"},
	"outage is an answer":                        {"Unavailable", "none that errors.Is smartcred.ErrUnavailable"},
	"error holds what was answered":              {"Garbage", "an error holds a secret"},
	"works after Close":                          {"Close", "Keys after Close: it did not fail"},
	"second Close fails":                         {"Close", "the first Close returned nil, the second: closed already"},
}

func TestRunCatchesBrokenBackends(t *testing.T) {
	for _, fault := range slices.Sorted(maps.Keys(brokenBackends)) {
		want := brokenBackends[fault]
		t.Run(fault, func(t *testing.T) {
			p := find(t, want.promise)
			err := p.examine(t, newStore(t, fault).harness())
			if err == nil {
				t.Fatalf("%s: not caught", want.promise)
			}
			if !strings.Contains(err.Error(), want.says) || !strings.Contains(err.Error(), "broken promise: "+p.says) {
				t.Errorf("%s: %v; want it to say %q", want.promise, err, want.says)
			}
			if strings.Contains(err.Error(), token) && fault != "error holds what was answered" {
				t.Errorf("the failure shows the secret: %v", err)
			}
		})
	}
}

func find(t *testing.T, name string) promise {
	t.Helper()
	for _, p := range promises {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("no promise %s", name)
	return promise{}
}

func TestCheckNamesEveryPromise(t *testing.T) {
	err := Check(t.Context(), newStore(t, "any algorithm").harness().Open(t))
	if err == nil || !strings.Contains(err.Error(), "ErrUnsupportedAlgorithm") {
		t.Errorf("not caught: %v", err)
	}
}

// An RSA signature of the wrong scheme is told by name.
func TestSignatureOfTheWrongScheme(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := signer.Key{Version: "1", Algorithm: signer.RS384, Public: &private.PublicKey}
	sig, err := rsa.SignPSS(rand.Reader, private, signer.RS384.Hash(), signer.RS384.Digest(input), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkSignature(key, input, sig); err == nil || !strings.Contains(err.Error(), "RSASSA-PSS; RS384 is RSASSA-PKCS1-v1_5") {
		t.Errorf("%v", err)
	}
}

// Time that is up breaks no promise.
func TestCheckThatRunsOutOfTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Check(ctx, newStore(t, "").harness().Open(t))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "broken promise") {
		t.Errorf("Check = %v", err)
	}
}
