package vaulttransit

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/vault"
	"github.com/smartcred/smartcred/signer"
)

const defaultMount = "transit"

// Options configure a [Signer]. The zero value and nil are the safe defaults.
type Options struct {
	// Mount is where the Transit secrets engine is mounted; empty: transit.
	Mount string
	// Version is the key version that signs; 0: the newest that is ready. Newer
	// ones are published and sign once a server refuses it, older ones too.
	Version int
	// Algorithm is what the key signs with; empty: RS384 or ES384, as the key is.
	Algorithm signer.Algorithm
	// PublishFor is how long a new version is published before it signs; 0: keys
	// are registered by hand, see [signer.OpenOptions].
	PublishFor time.Duration
}

// A Signer is a [signer.Signer] whose keys are the versions of a Transit key. It
// asks Vault once for each list and once for each signature.
type Signer struct {
	session *vault.Session
	mount   string
	key     string
	opts    Options
}

var _ signer.Signer = (*Signer)(nil)

// New returns a Signer over a client whose login is the caller's business. It
// asks Vault for nothing yet. [smartcred.ErrDenied] after Vault answered 403 is
// the caller's sign to log in again.
func New(client *api.Client, key string, opts *Options) (*Signer, error) {
	session, err := vault.Borrow(client)
	if err == nil {
		var s *Signer
		if s, err = newSigner(session, key, opts); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("vaulttransit: new signer: %w", err)
}

func newSigner(session *vault.Session, key string, opts *Options) (*Signer, error) {
	s := &Signer{session: session, key: key}
	if opts != nil {
		s.opts = *opts
	}
	s.mount = strings.Trim(s.opts.Mount, "/")
	if s.mount == "" {
		s.mount = defaultMount
	}
	switch {
	case key == "" || strings.ContainsAny(key, "/?#%"):
		return nil, &smartcred.ConfigError{Option: "key", Problem: "is not the name of a Transit key"}
	case s.opts.Version < 0:
		return nil, &smartcred.ConfigError{Option: "version", Problem: "is no number from 1 on"}
	case s.opts.Algorithm != "" && s.opts.Algorithm.Hash() == 0:
		return nil, fmt.Errorf("%w: no such algorithm here; there are RS384, ES384, RS256, RS512, PS384, ES256", smartcred.ErrUnsupportedAlgorithm)
	}
	return s, nil
}

// Reset ends the wait after failed logins, for everything in this process that
// logs in alike.
func (s *Signer) Reset() { s.session.Reset() }

// Close ends calls under way, which then return [smartcred.ErrClosed], as all
// later ones do; a client of the caller's stays open. A second call does nothing.
func (s *Signer) Close() error { return s.session.Close() }

// Keys implements [signer.Signer]: the versions that may sign, newest first.
func (s *Signer) Keys(ctx context.Context) ([]signer.Key, error) {
	path := s.mount + "/keys/" + s.key
	answer, err := s.session.Read(ctx, path, nil)
	if err != nil {
		return nil, fmt.Errorf("vaulttransit: list versions of key %q: %w", s.key, err)
	}
	info, err := parseKey(answer.Data)
	if err == nil {
		var keys []signer.Key
		if keys, err = info.list(s.opts); err == nil {
			return keys, nil
		}
	}
	return nil, fmt.Errorf("vaulttransit: list versions of key %q: %w", s.key, err)
}
