package secretsourcetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/smartcred/smartcred/internal/conformance"
	"github.com/smartcred/smartcred/secretsource"
)

// A Harness is one fresh backend without a secret. Each subtest gets a harness
// of its own. Functions end the test by t where they fail. A nil function is
// something that the backend can't do, or that can't be done to it.
type Harness struct {
	// Open returns a new Source over the backend, opened as a user opens it. It is
	// required. The kit closes what it opened, where that is an [io.Closer].
	Open func(t *testing.T) secretsource.Source
	// Set makes value the current secret; what was current becomes previous, where
	// HasPrevious says so. It is required.
	Set func(t *testing.T, value string)
	// HasPrevious says that the backend keeps the secret that was current before.
	HasPrevious bool
	// Remove takes the current secret away.
	Remove func(t *testing.T)
	// Deny makes the backend refuse this client, until allow is called.
	Deny func(t *testing.T) (allow func())
	// Stop makes the backend unreachable, until start is called.
	Stop func(t *testing.T) (start func())
	// Stall makes the backend take requests and answer none, until resume is called.
	Stall func(t *testing.T) (resume func())
	// Garble makes the backend answer with what it was sent, credentials included,
	// in place of what it should say, until restore is called.
	Garble func(t *testing.T) (restore func())
	// Secrets are what must be in no error beside the secrets that the kit sets:
	// tokens, PINs, passphrases.
	Secrets []string
}

// Run checks the Source that newHarness describes against the whole contract of
// [secretsource.Source], one subtest a promise.
func Run(t *testing.T, newHarness func(t *testing.T) *Harness) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) {
			h := newHarness(t)
			if h.Open == nil || h.Set == nil {
				t.Fatal("secretsourcetest: the harness has no Open or no Set")
			}
			if err := p.examine(t, h); err != nil {
				t.Error(err)
			}
		})
	}
}

// Check looks at what can be seen of the contract without doing anything to the
// backend, which has a current secret: the answer, 16 callers at once, cancelled
// contexts, a stage that nobody has. The error names the promises that are
// broken; nil: none was seen broken. It does not close src.
func Check(ctx context.Context, src secretsource.Source) error {
	sub := &subject{source: src, callers: 16, watch: conformance.NewWatch()}
	if s, err := src.Lookup(ctx, secretsource.Current); err == nil {
		sub.watch = conformance.NewWatch(string(s.Reveal()))
	}
	var broken []error
	for _, p := range promises {
		if p.look == nil {
			continue
		}
		err := p.look(ctx, sub)
		if ctx.Err() != nil { // which breaks no promise
			broken = append(broken, fmt.Errorf("secretsourcetest: not looked at: %s, and what follows: %w", p.says, ctx.Err()))
			break
		}
		if err != nil {
			broken = append(broken, p.broken(err))
		}
	}
	if leak := sub.watch.Err(); leak != nil {
		broken = append(broken, fmt.Errorf("secretsourcetest: broken promise: no error holds the secret: %w", leak))
	}
	return errors.Join(broken...)
}

// The secrets that the kit sets. The second one has what encodings stumble over.
const (
	firstValue  = "kit-0123456789abcdefghijklmnopqrstuvwxyz"
	secondValue = `kit p@ss/w+rd=%41&"é':;#? 0123456789`
)

// A promise is a sentence of the contract and what shows whether it is kept:
// either look, which needs a Source with a current secret only, or try, which
// needs a harness too.
type promise struct {
	name string
	says string
	look func(ctx context.Context, s *subject) error
	try  func(t *testing.T, h *Harness, s *subject) error
	// can reports whether the harness has what try needs; nil: it does.
	can func(h *Harness) bool
}

var promises = []promise{
	{name: "Current", says: "Lookup returns the current secret, with a version for logs", look: lookAtCurrent},
	{name: "Redaction", says: "a secret prints as [redacted], and its version does not tell it", look: lookAtPrinting},
	{name: "UnknownStage", says: "a stage that does not exist is ErrNotFound", look: lookAtStages},
	{name: "Concurrency", says: "implementations are safe for concurrent use", look: lookAtCallers},
	{name: "Aliasing", says: "what Lookup returned is the caller's", look: lookAtAliasing},
	{name: "ContextEndedBefore", says: "implementations honour ctx: a call whose context has ended fails with its error", look: lookAtEndedContext},
	{name: "ContextEndsDuring", says: "implementations honour ctx: a call under way returns when its context ends", try: tryStall, can: func(h *Harness) bool { return h.Stall != nil }},
	{name: "Values", says: "values are what was set, to the byte, and nothing is cached", try: tryValues},
	{name: "Previous", says: "the previous secret is the one that was current before; without one it is ErrNotFound", try: tryPrevious, can: func(h *Harness) bool { return h.HasPrevious }},
	{name: "Empty", says: "a backend without a secret is ErrNotFound", try: tryEmpty},
	{name: "Removed", says: "a secret that is gone is ErrNotFound, and nothing stands in for it", try: tryRemoved, can: func(h *Harness) bool { return h.Remove != nil }},
	{name: "Denied", says: "a backend that refuses this client is ErrDenied", try: tryDenied, can: func(h *Harness) bool { return h.Deny != nil }},
	{name: "Unavailable", says: "a backend that can't be asked is ErrUnavailable, and it is asked again", try: tryStopped, can: func(h *Harness) bool { return h.Stop != nil }},
	{name: "Garbage", says: "an answer that makes no sense is ErrUnavailable, and in no error", try: tryGarbled, can: func(h *Harness) bool { return h.Garble != nil }},
	{name: "Close", says: "after Close Lookup returns ErrClosed, and a second Close returns what the first did", try: tryClose},
	{name: "Goroutines", says: "no goroutine outlives Close", try: tryGoroutines},
}

func (p promise) broken(err error) error {
	return fmt.Errorf("secretsourcetest: broken promise: %s: %w", p.says, err)
}

// examine looks whether p is kept, and whether an error met on the way shows a secret.
func (p promise) examine(t *testing.T, h *Harness) (err error) {
	if p.can != nil && !p.can(h) {
		t.Log("not looked at: the harness can't do it")
		return nil
	}
	secrets := append([]string{firstValue, secondValue}, h.Secrets...)
	sub := &subject{source: h.Open(t), callers: 100, watch: conformance.NewWatch(secrets...)}
	defer func() {
		if c, ok := sub.source.(io.Closer); ok {
			_ = sub.watch.Show(c.Close())
		}
		if leak := sub.watch.Err(); leak != nil {
			err = errors.Join(err, p.broken(leak))
		}
	}()
	if p.look != nil {
		h.Set(t, firstValue)
		err = p.look(t.Context(), sub)
	} else {
		err = p.try(t, h, sub)
	}
	if err != nil {
		return p.broken(err)
	}
	return nil
}

// A subject is the Source looked at. All its errors are watched.
type subject struct {
	source  secretsource.Source
	watch   *conformance.Watch
	callers int
}

func (s *subject) lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	secret, err := s.source.Lookup(ctx, stage)
	return secret, s.watch.Show(err)
}

// current looks up a current secret that must be there.
func (s *subject) current(ctx context.Context) (secretsource.Secret, error) {
	secret, err := s.lookup(ctx, secretsource.Current)
	switch {
	case err != nil:
		return secretsource.Secret{}, err
	case len(secret.Reveal()) == 0:
		return secretsource.Secret{}, errors.New("neither a secret nor an error: a secret that is missing or empty is an error")
	}
	return secret, nil
}

// expect looks up a stage that must have value.
func (s *subject) expect(ctx context.Context, stage secretsource.Stage, value string) (secretsource.Secret, error) {
	secret, err := s.lookup(ctx, stage)
	if err != nil {
		return secret, fmt.Errorf("%s: %w", stage, err)
	}
	if got := string(secret.Reveal()); got != value {
		return secret, fmt.Errorf("%s: the value of %d bytes is not the one of %d bytes that was set", stage, len(got), len(value))
	}
	return secret, nil
}
