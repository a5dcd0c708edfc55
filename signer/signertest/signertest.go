package signertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/smartcred/smartcred/internal/conformance"
	"github.com/smartcred/smartcred/signer"
)

// A Harness is one fresh backend with one key that may sign. Each subtest gets a
// harness of its own. Functions end the test by t where they fail. A nil
// function is something that the backend can't do, or that can't be done to it.
type Harness struct {
	// Open returns a new Signer over the backend, opened as a user opens it. It is
	// required. The kit closes what it opened, where that is an [io.Closer].
	Open func(t *testing.T) signer.Signer
	// Rotate makes a newer key. When it returns, the backend lists it.
	Rotate func(t *testing.T)
	// Disable ends the use of the key with that version.
	Disable func(t *testing.T, version string)
	// Deny makes the backend refuse this client, until allow is called.
	Deny func(t *testing.T) (allow func())
	// Stop makes the backend unreachable, until start is called.
	Stop func(t *testing.T) (start func())
	// Stall makes the backend take requests and answer none, until resume is called.
	Stall func(t *testing.T) (resume func())
	// Garble makes the backend answer with what it was sent, credentials included,
	// in place of what it should say, until restore is called.
	Garble func(t *testing.T) (restore func())
	// Secrets are what must be in no error: tokens, PINs, passphrases, private keys.
	Secrets []string
}

// Run checks the Signer that newHarness describes against the whole contract of
// [signer.Signer], one subtest a promise.
func Run(t *testing.T, newHarness func(t *testing.T) *Harness) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			h := newHarness(t)
			if h.Open == nil {
				t.Fatal("signertest: the harness has no Open")
			}
			if err := p.examine(t, h); err != nil {
				t.Error(err)
			}
		})
	}
}

// Check looks at what can be seen of the contract without doing anything to the
// backend: the list, signatures by each key that may sign, 16 callers at once,
// unknown keys and algorithms, cancelled contexts. The error names the promises
// that are broken; nil: none was seen broken. It does not close s.
func Check(ctx context.Context, s signer.Signer) error {
	sub := &subject{signer: s, watch: conformance.NewWatch(), callers: 16}
	var broken []error
	for _, p := range promises {
		if p.look == nil {
			continue
		}
		err := p.look(ctx, sub)
		if ctx.Err() != nil { // which breaks no promise
			broken = append(broken, fmt.Errorf("signertest: not looked at: %s, and what follows: %w", p.says, ctx.Err()))
			break
		}
		if err != nil {
			broken = append(broken, p.broken(err))
		}
	}
	return errors.Join(broken...)
}

// A promise is a sentence of the contract and what shows whether it is kept:
// either look, which needs a Signer only, or try, which needs a harness too.
type promise struct {
	name string
	says string
	look func(ctx context.Context, s *subject) error
	try  func(t *testing.T, h *Harness, s *subject) error
	// can reports whether the harness has what try needs; nil: it does.
	can func(h *Harness) bool
}

var promises = []promise{
	{name: "Keys", says: "Keys returns the keys it can sign with: public halves only", look: lookAtList},
	{name: "Signature", says: "Sign returns the JWS signature of signingInput by exactly that key (RFC 7518 section 3)", look: lookAtSignatures},
	{name: "UnknownKey", says: "Sign with a key that is not there is ErrNotFound or ErrDenied", look: lookAtUnknownKey},
	{name: "UnknownAlgorithm", says: "Sign by an algorithm that the key is not for is ErrUnsupportedAlgorithm", look: lookAtAlgorithms},
	{name: "Concurrency", says: "implementations are safe for concurrent use", look: lookAtCallers},
	{name: "Aliasing", says: "what it returned, and what it was given, is the caller's", look: lookAtAliasing},
	{name: "ContextEndedBefore", says: "implementations honour ctx: a call whose context has ended fails with its error", look: lookAtEndedContext},
	{name: "ContextEndsDuring", says: "implementations honour ctx: a call under way returns when its context ends", try: tryStall, can: func(h *Harness) bool { return h.Stall != nil }},
	{name: "Rotation", says: "Keys is newest first and not cached, and a key keeps its kid", try: tryRotation, can: func(h *Harness) bool { return h.Rotate != nil }},
	{name: "Disabled", says: "a key that can't sign now is ErrNotFound or ErrDenied, and others sign", try: tryDisabled, can: func(h *Harness) bool { return h.Disable != nil }},
	{name: "Denied", says: "a backend that refuses this client is ErrDenied", try: tryDenied, can: func(h *Harness) bool { return h.Deny != nil }},
	{name: "Unavailable", says: "a backend that can't be asked is ErrUnavailable, and it is asked again", try: tryStopped, can: func(h *Harness) bool { return h.Stop != nil }},
	{name: "Garbage", says: "an answer that makes no sense is ErrUnavailable, and in no error", try: tryGarbled, can: func(h *Harness) bool { return h.Garble != nil }},
	{name: "Close", says: "after Close the methods return ErrClosed, and a second Close returns what the first did", try: tryClose},
	{name: "CloseUnderCalls", says: "Close ends calls under way, or lets them end", try: tryCloseUnderCalls},
	{name: "Goroutines", says: "no goroutine outlives Close", try: tryGoroutines},
}

func (p promise) broken(err error) error {
	return fmt.Errorf("signertest: broken promise: %s: %w", p.says, err)
}

// examine looks whether p is kept, and whether an error met on the way shows a secret.
func (p promise) examine(t *testing.T, h *Harness) (err error) {
	if p.can != nil && !p.can(h) {
		t.Log("not looked at: the harness can't do it")
		return nil
	}
	sub := &subject{signer: h.Open(t), watch: conformance.NewWatch(h.Secrets...), callers: 100}
	defer func() {
		if c, ok := sub.signer.(io.Closer); ok {
			_ = sub.watch.Show(c.Close())
		}
		if leak := sub.watch.Err(); leak != nil {
			err = errors.Join(err, p.broken(leak))
		}
	}()
	if p.look != nil {
		err = p.look(t.Context(), sub)
	} else {
		err = p.try(t, h, sub)
	}
	if err != nil {
		return p.broken(err)
	}
	return nil
}

// A subject is the Signer looked at. All its errors are watched.
type subject struct {
	signer  signer.Signer
	watch   *conformance.Watch
	callers int
}

func (s *subject) keys(ctx context.Context) ([]signer.Key, error) {
	keys, err := s.signer.Keys(ctx)
	return keys, s.watch.Show(err)
}

func (s *subject) sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	sig, err := s.signer.Sign(ctx, key, input)
	return sig, s.watch.Show(err)
}

// signs makes a signature and verifies it.
func (s *subject) signs(ctx context.Context, key signer.Key, input []byte) error {
	sig, err := s.sign(ctx, key, input)
	if err != nil {
		return fmt.Errorf("key with version %q does not sign: %w", key.Version, err)
	}
	return checkSignature(key, input, sig)
}

// first returns the newest key that may sign now.
func (s *subject) first(ctx context.Context) (signer.Key, error) {
	keys, err := s.ready(ctx)
	if err != nil {
		return signer.Key{}, err
	}
	return keys[0], nil
}
