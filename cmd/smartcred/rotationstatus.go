package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func (a *app) rotationStatus() *cobra.Command {
	var asJSON, probe bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say which secret or key is in force at the server, and what to do next",
		Long: `Status prints which versions the secret source or signer holds, with their
stages and dates, what is in force at the server and why, refusals, back-off, and
what to do next. What is in force it knows from state_file; without one, --probe
asks the server: one token request with each credential, whatever was refused
before. It ends with status 1 if there is something to act on.`,
		Example: `  smartcred rotation status --config smartcred.yaml
  smartcred rotation status --config smartcred.yaml --probe --json`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&probe, "probe", false, "ask the server with each credential, one request each")
	a.withConfiguration(cmd, needServer|needClient|needMethod, func(ctx context.Context, o *session) error {
		if o.method() == provider.MethodNone {
			return &smartcred.ConfigError{Option: "auth_method", Problem: "is none: there is nothing to rotate"}
		}
		if probe && len(o.scopes) == 0 {
			return &smartcred.ConfigError{Option: "scopes", Problem: "is missing, which --probe needs for its requests"}
		}
		report, failed := o.standing(ctx)
		if probe {
			failed = errors.Join(failed, a.probe(ctx, o, report))
		}
		report.advise(time.Now())
		var err error
		if asJSON {
			err = a.printJSON(report)
		} else {
			err = a.print(report.text())
		}
		switch {
		case err != nil:
			return err
		case failed != nil:
			return failed
		case report.ActionNeeded:
			return errFound
		}
		return nil
	})
	return cmd
}

// A standing is how a rotation stands at one server.
type standing struct {
	ClientID string          `json:"client_id"`
	Server   string          `json:"server"`
	Method   provider.Method `json:"method"`
	// StateFile is empty where nothing is kept between runs: then the rest is
	// what the source and --probe say.
	StateFile   string     `json:"state_file,omitempty"`
	Credentials []*held    `json:"credentials"`
	InForce     string     `json:"in_force"`
	Gone        []formerly `json:"no_longer_held,omitempty"`

	BackoffUntil time.Time `json:"backoff_until,omitzero"`
	HourlyBudget *int      `json:"hourly_budget,omitempty"`
	DailyBudget  *int      `json:"daily_budget,omitempty"`
	Degraded     string    `json:"degraded,omitempty"`

	ActionNeeded bool     `json:"action_needed"`
	Next         []string `json:"next"`

	adopted      bool
	file         bool // keys are in files that this program moves
	publishFor   time.Duration
	publishSince time.Time
}

// A held is a credential that the source or signer has.
type held struct {
	Stage     string           `json:"stage"`
	Version   string           `json:"version"`
	KeyID     string           `json:"kid,omitempty"`
	Algorithm signer.Algorithm `json:"algorithm,omitempty"`
	Custody   string           `json:"custody,omitempty"`
	Created   time.Time        `json:"created,omitzero"`
	Expires   time.Time        `json:"expires,omitzero"`
	NotBefore time.Time        `json:"not_before,omitzero"`
	Note      string           `json:"note,omitempty"`

	InForce      bool      `json:"in_force"`
	Worked       time.Time `json:"worked,omitzero"` // at this server, to the hour
	Refusals     int       `json:"refusals"`        // since it worked
	RefusedUntil time.Time `json:"refused_until,omitzero"`
	Probe        *probed   `json:"probe,omitempty"`

	secret secretsource.Secret
	key    signer.Key
}

// A formerly is a credential that was sent and that nobody holds any more.
type formerly struct {
	Version string    `json:"version"`
	KeyID   string    `json:"kid,omitempty"`
	Worked  time.Time `json:"worked,omitzero"`
	InForce bool      `json:"in_force"`
}

// standing asks the source or signer, and the state file. The error is the
// backend's; the report is worth printing all the same.
func (o *session) standing(ctx context.Context) (*standing, error) {
	s := &standing{
		ClientID: o.clientID, Server: o.scope().Server, Method: o.method(), StateFile: o.stateFile,
		Credentials: []*held{}, publishFor: o.publishFor,
	}
	var err error
	if o.keys != nil {
		_, s.file = o.filePath("signer", o.settings.signer)
		s.publishSince = o.publishedSince()
		err = s.holdKeys(ctx, o)
	} else {
		err = s.holdSecrets(ctx, o)
	}
	if err != nil {
		s.Degraded = plainText(err)
	}
	if o.memory != nil {
		s.learn(o.learned().Status(ctx, o.scope()))
	} else {
		s.InForce = "not known: there is no state_file that a run could learn it from; a service says it in its log"
	}
	return s, err
}

func (s *standing) holdKeys(ctx context.Context, o *session) error {
	candidates, err := o.keys.Candidates(ctx, nil)
	if err != nil {
		return &provider.CredentialError{Op: "list keys", Err: err}
	}
	for _, c := range candidates {
		h := &held{
			Stage: c.Role.String(), Version: c.Key.Version, KeyID: c.Key.ID, Algorithm: c.Key.Algorithm,
			Custody: c.Key.Custody.Level.String(), Created: c.Since, key: c.Key,
		}
		if c.Role == signer.RoleNext {
			if c.Key.NotBefore.Before(signer.Unscheduled) {
				h.NotBefore = c.Key.NotBefore
			}
			h.Created = s.publishSince
		}
		if !c.Usable {
			h.Note = "it could not sign lately"
		}
		s.Credentials = append(s.Credentials, h)
	}
	return nil
}

func (s *standing) holdSecrets(ctx context.Context, o *session) error {
	var values []secretsource.Secret
	for _, stage := range []secretsource.Stage{secretsource.Current, secretsource.Previous} {
		secret, err := o.secrets.Lookup(ctx, stage)
		switch {
		case stage == secretsource.Previous && (errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied)):
			continue // there is none
		case err != nil:
			return &provider.CredentialError{Op: fmt.Sprintf("look up %s client secret", stage), Err: err}
		}
		h := &held{Stage: stage.String(), Version: secret.Version, Created: secret.Created, Expires: secret.Expires, secret: secret}
		switch {
		case o.isRevoked(secret.Version):
			h.Note = "revoked by the configuration: never sent"
		case stage == secretsource.Previous && o.previous == previousNever:
			h.Note = "previous is never: never sent"
		case len(values) > 0 && values[0].Equal(secret):
			h.Note = "the same value as current: of no use"
		}
		values = append(values, secret)
		s.Credentials = append(s.Credentials, h)
	}
	return nil
}

// learn takes in what the state file has.
func (s *standing) learn(state rotation.Status) {
	s.BackoffUntil, s.adopted = state.BackoffUntil, state.Adopted
	s.HourlyBudget, s.DailyBudget = &state.HourlyBudget, &state.DailyBudget
	for _, k := range state.Known {
		inForce := !k.Worked.IsZero() && k.Version == state.InForce.Version && k.KeyID == state.InForce.KeyID
		if h := s.find(k.Version, k.KeyID); h != nil {
			h.Worked, h.Refusals, h.RefusedUntil, h.InForce = k.Worked, k.Refusals, k.RefusedUntil, inForce
		} else {
			s.Gone = append(s.Gone, formerly{Version: k.Version, KeyID: k.KeyID, Worked: k.Worked, InForce: inForce})
		}
	}
	s.InForce = s.whyInForce()
}

func (s *standing) find(version, kid string) *held {
	for _, h := range s.Credentials {
		if h.Version == version && h.KeyID == kid {
			return h
		}
	}
	return nil
}

func (s *standing) whyInForce() string {
	current := s.stage("current")
	for _, h := range s.Credentials {
		switch {
		case !h.InForce:
		case s.adopted:
			return fmt.Sprintf("%s: the server took it although it is staged, after it refused the current one", h.name())
		case h.Stage == "current":
			return fmt.Sprintf("%s: the server took it last, at %s", h.name(), when(h.Worked))
		case current != nil && current.Refusals > 0:
			return fmt.Sprintf("%s: the server took it, and refused the current one (%s)", h.name(), times(current.Refusals))
		default:
			return fmt.Sprintf("%s: the server took it last, at %s; the current one comes first at the next request", h.name(), when(h.Worked))
		}
	}
	for _, g := range s.Gone {
		if g.InForce {
			return fmt.Sprintf("none of these has worked at this server: version %s did last, at %s, and is no longer held", g.Version, when(g.Worked))
		}
	}
	return "none has worked at this server yet, as far as the state file knows; the current one comes first"
}

func (s *standing) stage(name string) *held {
	for _, h := range s.Credentials {
		if h.Stage == name {
			return h
		}
	}
	return nil
}

func (h *held) name() string {
	if h.KeyID != "" {
		return fmt.Sprintf("the %s key, kid %s", h.Stage, h.KeyID)
	}
	return fmt.Sprintf("the %s secret, version %s", h.Stage, h.Version)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (s *settings) isRevoked(version string) bool {
	for _, r := range s.revoked {
		if r == version {
			return true
		}
	}
	return false
}
