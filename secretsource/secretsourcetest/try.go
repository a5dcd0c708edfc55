package secretsourcetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/conformance"
	"github.com/smartcred/smartcred/secretsource"
)

func tryStall(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	if _, err := s.current(ctx); err != nil {
		return err
	}
	resume := h.Stall(t)
	err := conformance.CancelledDuring(ctx, func(ctx context.Context) error { _, err := s.lookup(ctx, secretsource.Current); return err })
	resume()
	if err != nil {
		return err
	}
	return conformance.Recovers(ctx, func() error { _, err := s.current(ctx); return err })
}

func tryValues(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	first, err := s.expect(ctx, secretsource.Current, firstValue)
	if err != nil {
		return err
	}
	h.Set(t, secondValue)
	second, err := s.expect(ctx, secretsource.Current, secondValue)
	if err != nil {
		return err
	}
	if first.Version == second.Version {
		return errors.New("two values have one version")
	}
	return nil
}

func tryPrevious(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	_, err := s.lookup(ctx, secretsource.Previous)
	if err := conformance.Answer(err, smartcred.ErrNotFound); err != nil {
		return fmt.Errorf("there never was another secret: %w", err)
	}
	h.Set(t, secondValue)
	if _, err := s.expect(ctx, secretsource.Current, secondValue); err != nil {
		return err
	}
	_, err = s.expect(ctx, secretsource.Previous, firstValue)
	return err
}

func tryEmpty(t *testing.T, _ *Harness, s *subject) error {
	for _, stage := range []secretsource.Stage{secretsource.Current, secretsource.Previous} {
		_, err := s.lookup(t.Context(), stage)
		if err := conformance.Answer(err, smartcred.ErrNotFound); err != nil {
			return fmt.Errorf("%s: %w", stage, err)
		}
	}
	return nil
}

func tryRemoved(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	h.Set(t, secondValue)
	if _, err := s.expect(ctx, secretsource.Current, secondValue); err != nil {
		return err
	}
	h.Remove(t)
	_, err := s.lookup(ctx, secretsource.Current)
	return conformance.Answer(err, smartcred.ErrNotFound)
}

func tryDenied(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	if _, err := s.current(ctx); err != nil {
		return err
	}
	allow := h.Deny(t)
	_, err := s.lookup(ctx, secretsource.Current)
	allow()
	if err := conformance.Answer(err, smartcred.ErrDenied); err != nil {
		return err
	}
	return conformance.Recovers(ctx, func() error { _, err := s.current(ctx); return err })
}

func tryStopped(t *testing.T, h *Harness, s *subject) error { return s.outage(t, h, h.Stop) }

func tryGarbled(t *testing.T, h *Harness, s *subject) error { return s.outage(t, h, h.Garble) }

// outage looks at both stages while the backend is broken, and after.
func (s *subject) outage(t *testing.T, h *Harness, begin func(*testing.T) func()) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	if _, err := s.current(ctx); err != nil {
		return err
	}
	end := begin(t)
	_, currentErr := s.lookup(ctx, secretsource.Current)
	_, previousErr := s.lookup(ctx, secretsource.Previous)
	end()
	if err := conformance.Outage(currentErr); err != nil {
		return fmt.Errorf("current: %w", err)
	}
	// A backend without a previous secret says so whatever its state.
	if h.HasPrevious {
		if err := conformance.Outage(previousErr); err != nil {
			return fmt.Errorf("previous: %w", err)
		}
	}
	return conformance.Recovers(ctx, func() error { _, err := s.expect(ctx, secretsource.Current, firstValue); return err })
}

func tryClose(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	if _, err := s.current(ctx); err != nil {
		return err
	}
	closer, ok := s.source.(io.Closer)
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
	_, err := s.lookup(ctx, secretsource.Current)
	switch {
	case err == nil:
		return errors.New("after Close, Lookup did not fail")
	case !errors.Is(err, smartcred.ErrClosed):
		return fmt.Errorf("in Lookup after Close: %w", err)
	}
	return nil
}

func tryGoroutines(t *testing.T, h *Harness, s *subject) error {
	ctx := t.Context()
	h.Set(t, firstValue)
	return conformance.Left(ctx, func() error {
		opened := &subject{source: h.Open(t), watch: s.watch}
		_, err := opened.current(ctx)
		if c, ok := opened.source.(io.Closer); ok {
			err = errors.Join(err, s.watch.Show(c.Close()))
		}
		return err
	})
}
