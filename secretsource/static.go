package secretsource

import (
	"context"
	"errors"
	"fmt"

	"github.com/smartcred/smartcred"
)

// Static returns a Source that always answers with the same current secret and
// has no previous one. It has no URI: no configuration ever holds a secret.
func Static(current []byte) Source { return StaticPair(current, nil) }

// StaticPair returns a Source that always answers with the same two secrets. An
// empty previous is none.
func StaticPair(current, previous []byte) Source {
	var s static
	if len(current) > 0 {
		s.current = (*OpenOptions)(nil).NewSecret(current)
	}
	if len(previous) > 0 {
		s.previous = (*OpenOptions)(nil).NewSecret(previous)
	}
	return s
}

type static struct{ current, previous Secret }

func (s static) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	if err := ended(ctx, stage); err != nil {
		return Secret{}, err
	}
	switch {
	case stage == Current && s.current.IsZero():
		return Secret{}, emptyValue("static")
	case stage == Current:
		return s.current, nil
	case stage == Previous && !s.previous.IsZero():
		return s.previous, nil
	default:
		return Secret{}, noStage("static", stage)
	}
}

// ended returns ctx's error, if it has one, in this package's words.
func ended(ctx context.Context, stage Stage) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("secretsource: look up %s secret: %w", stage, err)
	}
	return nil
}

func noStage(where string, stage Stage) error {
	return fmt.Errorf("secretsource: %s: %s secret: %w", where, stage, smartcred.ErrNotFound)
}

// errEmpty lets the file source tell an empty file from other errors.
var errEmpty = errors.New("the value is empty")

func emptyValue(where string) error {
	return fmt.Errorf("secretsource: %w", &smartcred.ConfigError{Problem: where, Err: errEmpty})
}
