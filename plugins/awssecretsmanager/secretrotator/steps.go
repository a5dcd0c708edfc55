package secretrotator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/smartcred/smartcred"
)

// expiresAt is the member that says when a client secret ends, in seconds since
// 1970; 0: never. RFC 7591 section 3.2.1.
const expiresAt = "client_secret_expires_at"

// A job is one step of one version of a secret.
type job struct {
	*Rotator
	event  Event
	secret *description
}

func (j *job) run(ctx context.Context) error {
	switch j.event.Step {
	case StepCreate:
		return j.create(ctx)
	case StepSet:
		change, err := j.change(ctx)
		if err != nil {
			return err
		}
		return j.setter.Set(ctx, change)
	case StepTest:
		change, err := j.change(ctx)
		if err != nil {
			return err
		}
		return j.test(ctx, change)
	default:
		return j.finish(ctx)
	}
}

func (j *job) pending(ctx context.Context) (Value, error) {
	return j.store.get(ctx, j.event.SecretID, j.event.ClientRequestToken, stagePending)
}

// change reads what the middle steps are about.
func (j *job) change(ctx context.Context) (Change, error) {
	pending, err := j.pending(ctx)
	if err != nil {
		return Change{}, err
	}
	current, err := j.store.get(ctx, j.event.SecretID, "", stageCurrent)
	if err != nil {
		return Change{}, err
	}
	if err := j.alive(pending); err != nil {
		return Change{}, err
	}
	if pending.Secret().Equal(current.Secret()) {
		return Change{}, &smartcred.ConfigError{Option: "version", Problem: j.event.ClientRequestToken + " has the client secret that AWSCURRENT has: nothing would be rotated; take AWSPENDING off it and rotate again"}
	}
	return Change{
		SecretID: j.secret.id, Version: j.event.ClientRequestToken,
		Current: current.Secret(), Pending: pending.Secret(),
	}, nil
}

// create gives the version a value, unless it has one: that one may be known to
// the server already.
func (j *job) create(ctx context.Context) error {
	switch _, err := j.pending(ctx); {
	case err == nil:
		return nil
	case !errors.Is(err, smartcred.ErrNotFound):
		return err
	}
	current, err := j.store.get(ctx, j.event.SecretID, "", stageCurrent)
	if err != nil {
		return err
	}
	if issuer, ok := j.setter.(Issuer); ok {
		return j.issue(ctx, issuer, current)
	}
	next, err := current.With(newSecret(j.length), nil)
	if err != nil {
		return err
	}
	// Where two create it at once the first one's value is the version's.
	if err := j.store.put(ctx, j.event, next, stagePending); err != nil && !errors.Is(err, errExists) {
		return err
	}
	return nil
}

// issue has the server make the secret and stores what it says, before anything
// else and whatever it says besides.
func (j *job) issue(ctx context.Context, issuer Issuer, current Value) error {
	next, err := issuer.Issue(ctx, current, func(ctx context.Context, v Value) error { return j.keep(ctx, current, v) })
	if next.whole.IsZero() {
		if err == nil {
			err = errors.New("the server issued no secret")
		}
		return err
	}
	if failed := j.store.putIssued(ctx, j.event, next, stagePending); failed != nil {
		return errors.Join(fmt.Errorf("the server issued a secret that is not stored, and may take the old one no more: run createSecret for this version again at once: %w", failed), err)
	}
	if end := next.number(expiresAt); end != 0 && !j.secret.next.IsZero() && time.Unix(end, 0).Before(j.secret.next) {
		j.log(ctx, slog.LevelWarn, "the new secret ends before the next rotation: rotate more often", append(j.attrs(), slog.Time("expires", time.Unix(end, 0)))...)
	}
	return err
}

// keep stores v in the place of current. The client secret is the same:
// consumers see no change.
func (j *job) keep(ctx context.Context, current, v Value) error {
	if !v.Secret().Equal(current.Secret()) {
		return errors.New("what is to be kept has another client secret than the current value")
	}
	e := j.event
	e.ClientRequestToken = newVersion()
	return j.store.putIssued(ctx, e, v, stageCurrent)
}

func (j *job) test(ctx context.Context, change Change) error {
	err := j.tester.Test(ctx, change)
	if !errors.Is(err, ErrRefused) {
		return err
	}
	if _, ok := j.setter.(Issuer); ok {
		return fmt.Errorf("%w; nothing was finished. Run testSecret again: some servers take minutes. If it stays so, %s: the secret is read from the server then", err, anew(change.Version))
	}
	return fmt.Errorf("%w; nothing was finished, and AWSCURRENT serves on. Run setSecret and testSecret again; to begin anew, take AWSPENDING off version %s", err, change.Version)
}

// finish makes the version current, if it can serve.
func (j *job) finish(ctx context.Context) error {
	pending, err := j.pending(ctx)
	if err != nil {
		return err
	}
	if err := j.alive(pending); err != nil {
		return err
	}
	if err := j.store.move(ctx, j.event.SecretID, stageCurrent, j.secret.current(), j.event.ClientRequestToken); err != nil {
		// An answer that was lost on the way may have been a yes, which makes the
		// SDK's next attempt a no: the label is where it was to go.
		now, lookErr := j.store.describe(ctx, j.event.SecretID)
		if lookErr != nil || !now.staged(j.event.ClientRequestToken, stageCurrent) {
			return err
		}
	}
	j.unlabel(ctx)
	return nil
}

// unlabel takes AWSPENDING off a version that is current. Left there it would make
// the version pending again when another becomes current: the next rotation would
// go back to it. Where that fails the rotation is done all the same: AWS takes both
// for its end, and a step that runs again tries again.
func (j *job) unlabel(ctx context.Context) {
	if err := j.store.move(ctx, j.event.SecretID, stagePending, j.event.ClientRequestToken, ""); err != nil {
		j.log(ctx, slog.LevelWarn, "the version is current, and keeps the label AWSPENDING", append(j.attrs(), slog.String("error", err.Error()))...)
	}
}

// alive refuses a secret that its server has ended. Only who issues secrets
// says when they end: beside others the member is about the one before.
func (j *job) alive(pending Value) error {
	end := pending.number(expiresAt)
	if _, ok := j.setter.(Issuer); !ok || !ended(end) {
		return nil
	}
	return fmt.Errorf("the new secret expired %s: %s: %w",
		time.Unix(end, 0).UTC().Format(time.RFC3339), anew(j.event.ClientRequestToken), ErrRefused)
}

// anew says how to begin anew where the server issues secrets: what else it issued
// is in the version that is given up.
func anew(version string) string {
	return "take AWSPENDING off version " + version + " and rotate again, but put its registration_access_token into AWSCURRENT first, if it is another one there"
}

// ended reports whether a client_secret_expires_at has passed.
func ended(end int64) bool { return end != 0 && !time.Now().Before(time.Unix(end, 0)) }
