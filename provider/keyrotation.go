package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/signer"
)

// keyCandidates implements [rotation.Candidates] for one call.
type keyCandidates struct {
	*PrivateKeyJWT
	algorithms []string
	list       []signer.Candidate
	outage     error // why the list could not be looked up again
}

func (c *keyCandidates) Current(ctx context.Context) (rotation.Candidate[signer.Candidate], error) {
	list, err := c.keys.Candidates(ctx, c.algorithms)
	if err != nil {
		return rotation.Candidate[signer.Candidate]{}, &CredentialError{Op: "choose signing key", Err: err}
	}
	c.list = list
	return asKeyCandidate(list[0], rotation.Current), nil
}

// Newer returns the current key after another look. Where the backend can't be
// asked, one that another caller found meanwhile will do; than itself is an error
// that says so.
func (c *keyCandidates) Newer(ctx context.Context, than rotation.Candidate[signer.Candidate]) (rotation.Candidate[signer.Candidate], error) {
	c.outage = nil
	if _, _, err := c.keys.Newer(ctx, than.Value.Key); err != nil {
		err = &CredentialError{Op: "look for a newer key", Err: err}
		if !errors.Is(err, smartcred.ErrUnavailable) {
			return rotation.Candidate[signer.Candidate]{}, err
		}
		c.outage = err
	}
	current, err := c.Current(ctx)
	if err == nil && bytes.Equal(current.Identity, than.Identity) {
		err = c.outage
	}
	return current, err
}

// Others returns the keys before the current one, then the staged ones: those
// are for the emergency that a server refuses every other. The error says that
// they are those of an old list.
func (c *keyCandidates) Others(_ context.Context, inForce func([]byte) bool) ([]rotation.Candidate[signer.Candidate], error) {
	var others []rotation.Candidate[signer.Candidate]
	for _, key := range c.list[1:] {
		stage := rotation.Previous
		switch key.Role {
		case signer.RoleNext:
			stage = rotation.Staged
		case signer.RoleCurrent:
			stage = rotation.Current
		}
		candidate := asKeyCandidate(key, stage)
		if stage == rotation.Previous {
			if c.rotator.opts.Previous == PreviousNever {
				continue
			}
			if c.rotator.late(c.list[0].Since) {
				if !inForce(candidate.Identity) {
					continue
				}
				candidate.Late = true
			}
		}
		others = append(others, candidate)
	}
	return others, c.outage
}

func asKeyCandidate(key signer.Candidate, stage rotation.Stage) rotation.Candidate[signer.Candidate] {
	return rotation.Candidate[signer.Candidate]{
		Identity: []byte(key.Thumbprint), Version: key.Key.Version, KeyID: key.Key.ID,
		Stage: stage, LastResort: !key.Usable, Value: key,
	}
}

// asNotSent tells a key that can't sign, where another may, from a backend that
// can't be asked.
func asNotSent(err error) error {
	failed := &CredentialError{Op: "sign assertion", Err: err}
	if errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied) || errors.Is(err, signer.ErrBadSignature) {
		return &rotation.NotSentError{Err: failed}
	}
	return failed
}

// Check implements [Checker]: a key that its backend no longer lists, or that the
// configuration revoked.
func (p *PrivateKeyJWT) Check(ctx context.Context, identity string) error {
	list, err := p.keys.Candidates(ctx, nil)
	switch {
	case errors.Is(err, smartcred.ErrNotFound):
		return fmt.Errorf("provider: check signing key: %w: %w", ErrRevoked, err)
	case err != nil:
		return err
	}
	listed := slices.ContainsFunc(list, func(c signer.Candidate) bool {
		return c.Thumbprint == identity && (c.Role == signer.RoleNext || c.Role == signer.RoleCurrent || p.rotator.opts.Previous != PreviousNever)
	})
	if !listed {
		return fmt.Errorf("provider: check signing key: %w: it is not among the keys that may sign", ErrRevoked)
	}
	return nil
}
