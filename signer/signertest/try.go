package signertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/conformance"
	"github.com/smartcred/smartcred/signer"
)

func tryStall(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	resume := h.Stall(t)
	err = conformance.CancelledDuring(ctx, func(ctx context.Context) error { _, err := s.sign(ctx, key, input); return err })
	if err != nil {
		err = fmt.Errorf("in Sign: %w", err)
	} else if err = conformance.CancelledDuring(ctx, func(ctx context.Context) error { _, err := s.keys(ctx); return err }); err != nil {
		err = fmt.Errorf("in Keys: %w", err)
	}
	resume()
	if err != nil {
		return err
	}
	return conformance.Recovers(ctx, func() error { return s.signs(ctx, key, input) })
}

func tryRotation(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	old, err := s.keys(ctx)
	if err != nil {
		return err
	}
	again, err := s.keys(ctx)
	if err != nil {
		return err
	}
	if len(again) != len(old) || again[0].ID != old[0].ID || again[0].Version != old[0].Version {
		return errors.New("two lists of an unchanged backend differ")
	}
	h.Rotate(t)
	keys, err := s.keys(ctx)
	if err != nil {
		return err
	}
	before := thumbprints(old)
	if slices.Contains(before, thumbprints(keys)[0]) {
		return errors.New("the newest key is not the first of the list, or the list is cached")
	}
	if keys[0].ID == old[0].ID {
		return fmt.Errorf("the new key has the kid of the old one, %q", old[0].ID)
	}
	if err := s.signs(ctx, keys[0], input); err != nil {
		return fmt.Errorf("the new key: %w", err)
	}
	for i, thumb := range thumbprints(keys) {
		at := slices.Index(before, thumb)
		if at < 0 {
			continue
		}
		if keys[i].ID != old[at].ID {
			return fmt.Errorf("the old key's kid changed from %q to %q", old[at].ID, keys[i].ID)
		}
		if err := s.signs(ctx, old[at], input); err != nil {
			return fmt.Errorf("the old key, as it was listed before: %w", err)
		}
	}
	return nil
}

// thumbprints are the identities of keys.
func thumbprints(keys []signer.Key) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i], _ = signer.Thumbprint(k.Public) // lookAtList tells what is wrong with a key
	}
	return out
}

func tryDisabled(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	if h.Rotate != nil {
		h.Rotate(t)
	}
	h.Disable(t, key.Version)
	_, err = s.sign(ctx, key, input)
	if err := conformance.Answer(err, smartcred.ErrNotFound, smartcred.ErrDenied); err != nil {
		return err
	}
	if h.Rotate == nil {
		return nil
	}
	keys, err := s.keys(ctx)
	if err != nil {
		return fmt.Errorf("one key of two can't sign, and the list fails: %w", err)
	}
	return s.signs(ctx, keys[0], input)
}

func tryDenied(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	allow := h.Deny(t)
	_, signErr := s.sign(ctx, key, input)
	_, keysErr := s.keys(ctx)
	allow()
	if err := conformance.Answer(signErr, smartcred.ErrDenied); err != nil {
		return fmt.Errorf("in Sign: %w", err)
	}
	if err := conformance.Answer(keysErr, smartcred.ErrDenied); err != nil {
		return fmt.Errorf("in Keys: %w", err)
	}
	return conformance.Recovers(ctx, func() error { return s.signs(ctx, key, input) })
}

func tryStopped(t *testing.T, h *Harness, s *subject) error { return s.outage(t, h.Stop) }

func tryGarbled(t *testing.T, h *Harness, s *subject) error { return s.outage(t, h.Garble) }

// outage looks at both methods while the backend is broken, and after.
func (s *subject) outage(t *testing.T, begin func(*testing.T) func()) error {
	ctx := t.Context()
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	end := begin(t)
	_, signErr := s.sign(ctx, key, input)
	_, keysErr := s.keys(ctx)
	end()
	if err := conformance.Outage(signErr); err != nil {
		return fmt.Errorf("in Sign: %w", err)
	}
	if err := conformance.Outage(keysErr); err != nil {
		return fmt.Errorf("in Keys: %w", err)
	}
	return conformance.Recovers(ctx, func() error {
		if _, err := s.keys(ctx); err != nil {
			return err
		}
		return s.signs(ctx, key, input)
	})
}

func tryClose(t *testing.T, _ *Harness, s *subject) error {
	ctx := t.Context()
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	closer, ok := s.signer.(io.Closer)
	if !ok {
		return nil // it holds nothing
	}
	first := s.watch.Show(closer.Close())
	second := s.watch.Show(closer.Close())
	if first != nil {
		return fmt.Errorf("in Close: %w", first)
	}
	if second != nil {
		return fmt.Errorf("the first Close returned nil, the second: %w", second)
	}
	if _, err := s.keys(ctx); !errors.Is(err, smartcred.ErrClosed) {
		return fmt.Errorf("in Keys after Close: %w", none(err))
	}
	if _, err := s.sign(ctx, key, input); !errors.Is(err, smartcred.ErrClosed) {
		return fmt.Errorf("in Sign after Close: %w", none(err))
	}
	return nil
}

// none is err, in words also where there is none.
func none(err error) error {
	if err == nil {
		return errors.New("it did not fail")
	}
	return err
}

func tryCloseUnderCalls(t *testing.T, _ *Harness, s *subject) error {
	ctx := t.Context()
	key, err := s.first(ctx)
	if err != nil {
		return err
	}
	closer, ok := s.signer.(io.Closer)
	if !ok {
		return nil
	}
	return conformance.All(21, func(i int) error {
		if i == 10 {
			return s.watch.Show(closer.Close())
		}
		for {
			switch err := s.signs(ctx, key, input); {
			case errors.Is(err, smartcred.ErrClosed):
				return nil
			case err != nil:
				return fmt.Errorf("a call that Close met: %w", err)
			}
		}
	})
}

func tryGoroutines(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	return conformance.Left(ctx, func() error {
		opened := &subject{signer: h.Open(t), watch: s.watch}
		key, err := opened.first(ctx)
		if err == nil {
			err = opened.signs(ctx, key, input)
		}
		if c, ok := opened.signer.(io.Closer); ok {
			err = errors.Join(err, s.watch.Show(c.Close()))
		}
		return err
	})
}
