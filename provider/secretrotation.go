package provider

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
)

// secrets is what the two methods with client secrets share.
type secrets struct {
	cache   *secretsource.Cache
	rotator *rotator[secretsource.Secret]
	key     [32]byte               // of what Check compares
	told    atomic.Pointer[string] // the version that was last reported as revoked
}

func newSecrets(method Method, source secretsource.Source, o SecretOptions) (*secrets, error) {
	if source == nil {
		return nil, &smartcred.ConfigError{Option: "secret", Problem: "no secret source given"}
	}
	r, err := newRotator[secretsource.Secret](method, o.Rotation, o.Observer)
	if err != nil {
		return nil, err
	}
	cache, ok := source.(*secretsource.Cache)
	if !ok {
		var c secretsource.CacheOptions
		if o.Cache != nil {
			c = *o.Cache
		}
		if c.Observer == nil {
			c.Observer = o.Observer
		}
		cache = secretsource.NewCache(source, &c)
	}
	s := &secrets{cache: cache, rotator: r}
	_, _ = rand.Read(s.key[:]) // never fails: crypto/rand ends the process instead
	return s, nil
}

// authenticate sends what build makes of the secrets that there are.
func (s *secrets) authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error, build func(secretsource.Secret) (CredentialOptions, error)) error {
	candidates := &secretCandidates{secrets: s}
	err := s.rotator.do(ctx, req, candidates, func(ctx context.Context, secret secretsource.Secret) error {
		o, err := build(secret)
		if err != nil {
			return err
		}
		o.Version, o.Identity = secret.Version, s.identity(secret)
		return send(ctx, NewCredential(o))
	})
	if err == nil && candidates.looked {
		s.forgetPrevious(ctx, scopeOf(req))
	}
	return err
}

// forgetPrevious drops the previous secret from memory where it is not in force.
func (s *secrets) forgetPrevious(ctx context.Context, scope rotation.Scope) {
	current, err := s.cache.Lookup(ctx, secretsource.Current)
	if err == nil && s.rotator.engine.Status(ctx, scope).InForce.Version == current.Version {
		s.cache.Forget(secretsource.Previous)
	}
}

func (s *secrets) status(ctx context.Context, scope rotation.Scope) Status {
	status := Status{Status: s.rotator.engine.Status(ctx, scope)}
	if current := s.cache.Status(secretsource.Current); current.Stale {
		status.Degraded = current.Err
	}
	return status
}

func (s *secrets) identity(secret secretsource.Secret) string {
	mac := hmac.New(sha256.New, s.key[:])
	mac.Write(secret.Reveal())
	return string(mac.Sum(nil)[:16])
}

// check implements [Checker]: a secret that is at no stage any more, that the
// configuration revoked, or that is previous where previous is never used.
func (s *secrets) check(ctx context.Context, identity string) error {
	current, err := s.cache.Lookup(ctx, secretsource.Current)
	switch {
	case errors.Is(err, smartcred.ErrNotFound):
		return fmt.Errorf("provider: check client secret: %w: %w", ErrRevoked, err)
	case err != nil:
		return err
	case s.identity(current) == identity:
		if s.rotator.isRevoked(current.Version) {
			return fmt.Errorf("provider: check client secret: %w by the configuration", ErrRevoked)
		}
		return nil
	case s.rotator.opts.Previous == PreviousNever:
		return fmt.Errorf("provider: check client secret: %w: it is not the current one, and previous is never used", ErrRevoked)
	}
	previous, err := s.cache.Lookup(ctx, secretsource.Previous)
	switch {
	case errors.Is(err, smartcred.ErrNotFound), errors.Is(err, smartcred.ErrDenied):
		return fmt.Errorf("provider: check client secret: %w: its source has it no more", ErrRevoked)
	case err != nil:
		return err
	case s.identity(previous) != identity:
		return fmt.Errorf("provider: check client secret: %w: it is neither current nor previous any more", ErrRevoked)
	case s.rotator.isRevoked(previous.Version):
		return fmt.Errorf("provider: check client secret: %w by the configuration", ErrRevoked)
	}
	return nil
}

// secretCandidates implements [rotation.Candidates] for one call.
type secretCandidates struct {
	*secrets
	current secretsource.Secret
	looked  bool // previous was looked up
}

func (c *secretCandidates) Current(ctx context.Context) (rotation.Candidate[secretsource.Secret], error) {
	secret, err := c.cache.Lookup(ctx, secretsource.Current)
	return c.asCurrent(ctx, secret, err)
}

func (c *secretCandidates) Newer(ctx context.Context, than rotation.Candidate[secretsource.Secret]) (rotation.Candidate[secretsource.Secret], error) {
	secret, err := c.cache.Newer(ctx, than.Value)
	return c.asCurrent(ctx, secret, err)
}

func (c *secretCandidates) asCurrent(ctx context.Context, secret secretsource.Secret, err error) (rotation.Candidate[secretsource.Secret], error) {
	const op = "look up client secret"
	switch {
	case err != nil:
	case len(secret.Reveal()) == 0:
		err = fmt.Errorf("the source's value is empty: %w", smartcred.ErrNotFound)
	case c.rotator.isRevoked(secret.Version):
		c.tellRevoked(ctx, secret.Version)
		err = fmt.Errorf("version %s, which is current, is revoked by the configuration: %w", secret.Version, smartcred.ErrNotFound)
	}
	if err != nil {
		return rotation.Candidate[secretsource.Secret]{}, &CredentialError{Op: op, Err: err}
	}
	c.current = secret
	return asCandidate(secret, rotation.Current), nil
}

// tellRevoked reports once that the configuration revoked the current secret.
func (s *secrets) tellRevoked(ctx context.Context, version string) {
	if last := s.told.Swap(&version); last != nil && *last == version {
		return
	}
	smartcred.Notify(ctx, s.rotator.opts.Observer, smartcred.Event{
		Kind: smartcred.EventSecretRevoked, Version: version, Detail: "the configuration revoked the current secret",
	})
}

func (c *secretCandidates) Others(ctx context.Context, inForce func([]byte) bool) ([]rotation.Candidate[secretsource.Secret], error) {
	if c.rotator.opts.Previous == PreviousNever {
		return nil, nil
	}
	c.looked = true
	previous, err := c.cache.Lookup(ctx, secretsource.Previous)
	switch {
	case errors.Is(err, smartcred.ErrNotFound), errors.Is(err, smartcred.ErrDenied):
		return nil, nil // there is none
	case err != nil:
		return nil, &CredentialError{Op: "look up previous client secret", Err: err}
	case len(previous.Reveal()) == 0 || c.rotator.isRevoked(previous.Version):
		return nil, nil
	}
	candidate := asCandidate(previous, rotation.Previous)
	if c.rotator.late(c.current.Created) {
		if !inForce(candidate.Identity) {
			return nil, nil
		}
		candidate.Late = true
	}
	return []rotation.Candidate[secretsource.Secret]{candidate}, nil
}

func asCandidate(secret secretsource.Secret, stage rotation.Stage) rotation.Candidate[secretsource.Secret] {
	return rotation.Candidate[secretsource.Secret]{
		Identity: secret.Reveal(), Version: secret.Version, Stage: stage, Value: secret,
	}
}
