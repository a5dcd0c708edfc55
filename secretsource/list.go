package secretsource

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/smartcred/smartcred"
)

// List returns a Source made of several, each asked for its current secret
// only. The first one's is current. Previous is that of the first later source
// whose value differs from it; later sources that have none, or may not be
// read, are passed over. While current has no value neither has previous:
// nothing is sent in the place of a revoked secret.
//
// Its Close closes all sources that are [io.Closer].
func List(sources ...Source) Source { return &list{sources: sources} }

type list struct {
	sources []Source
	closed  atomic.Bool
}

func (l *list) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	if l.closed.Load() {
		return Secret{}, errClosed
	}
	if len(l.sources) == 0 {
		return Secret{}, fmt.Errorf("secretsource: %w", &smartcred.ConfigError{Problem: "the list of sources is empty"})
	}
	if stage != Current && stage != Previous {
		return Secret{}, noStage("list", stage)
	}
	current, err := l.sources[0].Lookup(ctx, Current)
	if err != nil || stage == Current {
		return current, err
	}
	var denied error
	for _, src := range l.sources[1:] {
		s, err := src.Lookup(ctx, Current)
		switch {
		case err == nil && !s.Equal(current):
			return s, nil
		case err == nil || errors.Is(err, smartcred.ErrNotFound):
		case errors.Is(err, smartcred.ErrDenied):
			denied = err
		default:
			return Secret{}, err
		}
	}
	if denied != nil {
		return Secret{}, denied
	}
	return Secret{}, noStage("list", stage)
}

// Close implements [io.Closer].
func (l *list) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, src := range l.sources {
		errs = append(errs, closeSource(src))
	}
	return errors.Join(errs...)
}

var errClosed = fmt.Errorf("secretsource: %w", smartcred.ErrClosed)
