package vaultkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/vault"
	"github.com/smartcred/smartcred/secretsource"
)

// Options configure a [Source]. The zero value and nil are the safe defaults.
type Options struct {
	// Mount is where the KV secrets engine is mounted; empty: secret.
	Mount string
	// KV is the engine's version, 1 or 2; 0: Vault is asked, once.
	KV int
	// FingerprintKey keys the versions of values of KV version 1, which has none
	// of its own, see [secretsource.OpenOptions].
	FingerprintKey secretsource.FingerprintKey
}

// A Source is a [secretsource.Source] over one field of a KV secret.
type Source struct {
	session   *vault.Session
	field     string
	newSecret func([]byte) secretsource.Secret

	mu    sync.Mutex
	place place // where the secret is; its kv is 0 until it is known
	asked place // what place was before Vault was asked; zero: it was not
	since since // when the field got the value that is current
}

var _ secretsource.Source = (*Source)(nil)

// A place is a secret of an engine.
type place struct {
	mount string // empty: to be found in path
	path  string
	kv    int
}

// New returns a Source over a client whose login is the caller's business. It
// asks Vault for nothing yet. [smartcred.ErrDenied] after Vault answered 403 is
// the caller's sign to log in again.
func New(client *api.Client, path, field string, opts *Options) (*Source, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	session, err := vault.Borrow(client)
	if err == nil {
		where := place{mount: strings.Trim(o.Mount, "/"), path: strings.Trim(path, "/"), kv: o.KV}
		if where.mount == "" {
			where.mount = "secret"
		}
		var s *Source
		if s, err = newSource(session, where, field, &secretsource.OpenOptions{FingerprintKey: o.FingerprintKey}); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("vaultkv: new source: %w", err)
}

func newSource(session *vault.Session, where place, field string, opts *secretsource.OpenOptions) (*Source, error) {
	switch {
	case field == "":
		return nil, &smartcred.ConfigError{Option: "field", Problem: "is missing: a KV secret has several, and #FIELD behind the URI names the one that holds the client secret"}
	case where.path == "" || strings.ContainsAny(where.path, "?#%"):
		return nil, &smartcred.ConfigError{Option: "path", Problem: "is not the path of a KV secret"}
	case where.kv < 0 || where.kv > 2:
		return nil, &smartcred.ConfigError{Option: "kv", Problem: "is neither 1 nor 2"}
	}
	return &Source{session: session, place: where, field: field, newSecret: opts.NewSecret}, nil
}

// Reset ends the wait after failed logins, for everything in this process that
// logs in alike.
func (s *Source) Reset() { s.session.Reset() }

// Close ends look-ups under way, which then return [smartcred.ErrClosed], as all
// later ones do; a client of the caller's stays open. A second call does nothing.
func (s *Source) Close() error { return s.session.Close() }

// Lookup implements [secretsource.Source]. It asks Vault once; up to five times
// more for the previous secret, and for the age of a current one that is new.
func (s *Source) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	secret, err := s.lookup(ctx, stage)
	if err != nil {
		return secretsource.Secret{}, fmt.Errorf("vaultkv: look up %s secret: %w", stage, err)
	}
	return secret, nil
}

func (s *Source) lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	if stage != secretsource.Current && stage != secretsource.Previous {
		return secretsource.Secret{}, smartcred.ErrNotFound
	}
	where, err := s.locate(ctx)
	if err != nil {
		return secretsource.Secret{}, err
	}
	secret, err := s.read(ctx, where, stage)
	if stage != secretsource.Current || !errors.Is(err, smartcred.ErrNotFound) || !s.forget(where) {
		return secret, err
	}
	// The mount may be another engine by now, or upgraded: that revokes nothing.
	if now, locateErr := s.locate(ctx); locateErr == nil && now != where {
		return s.read(ctx, now, stage)
	}
	return secret, err
}

func (s *Source) read(ctx context.Context, where place, stage secretsource.Stage) (secretsource.Secret, error) {
	if where.kv == 2 {
		return s.lookupVersioned(ctx, where, stage)
	}
	if stage == secretsource.Previous {
		return secretsource.Secret{}, fmt.Errorf("%w: KV version 1 keeps no earlier value; a second URI names it", smartcred.ErrNotFound)
	}
	answer, err := s.session.Read(ctx, where.mount+"/"+where.path, nil)
	if err != nil {
		return secretsource.Secret{}, err
	}
	value, err := s.value(answer.Data)
	if err != nil {
		return secretsource.Secret{}, err
	}
	return s.newSecret(value), nil
}

// value takes the field out of what a secret holds.
func (s *Source) value(data map[string]any) ([]byte, error) {
	value, ok := data[s.field]
	if !ok || value == nil {
		return nil, fmt.Errorf("%w: the secret has no field %q", smartcred.ErrNotFound, s.field)
	}
	text, ok := value.(string)
	if rest, newline := strings.CutSuffix(text, "\n"); newline {
		text = strings.TrimSuffix(rest, "\r") // what `vault kv put` reads from a pipe or file often ends in one
	}
	switch {
	case !ok:
		return nil, &smartcred.ConfigError{Option: s.field, Problem: "the field is no string: write it as one"}
	case text == "":
		return nil, fmt.Errorf("%w: the field %q is empty", smartcred.ErrNotFound, s.field)
	}
	return []byte(text), nil
}
