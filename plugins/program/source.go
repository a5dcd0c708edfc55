package program

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
	"github.com/smartcred/smartcred/secretsource"
)

// A programSource is a Source that a program is.
type programSource struct {
	*runner
	newSecret func([]byte) secretsource.Secret
}

var _ secretsource.Source = (*programSource)(nil)

// Lookup implements [secretsource.Source].
func (s *programSource) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	secret, err := s.lookup(ctx, stage)
	if err != nil {
		return secretsource.Secret{}, fmt.Errorf("program: look up %s secret: %w", stage, err)
	}
	return secret, nil
}

func (s *programSource) lookup(ctx context.Context, stage secretsource.Stage) (secret secretsource.Secret, err error) {
	if stage != secretsource.Current && stage != secretsource.Previous {
		return secret, smartcred.ErrNotFound
	}
	var said wire.SecretAnswer
	err = s.call(ctx, wire.Request{Method: wire.Lookup, Stage: stage.String()}, func(a *wire.Answer) (err error) {
		if said, err = a.Secret(); err != nil {
			return err
		}
		if said.Version != "" && strings.Contains(said.Version, string(said.Value)) {
			return errors.New("its answer has the secret in its version, which logs show")
		}
		return s.clean(said.Version)
	})
	if err != nil {
		return secret, err
	}
	if said.Version == "" {
		secret = s.newSecret(said.Value)
	} else {
		secret = secretsource.New(said.Value, said.Version)
	}
	secret.Created, secret.Expires = said.Created, said.Expires
	return secret, nil
}
