package secretrotator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// A Step is one of the four that Secrets Manager's rotation has.
type Step string

// The steps, in the order in which they run.
const (
	StepCreate Step = "createSecret"
	StepSet    Step = "setSecret"
	StepTest   Step = "testSecret"
	StepFinish Step = "finishSecret"
)

// Steps are all steps in order.
var Steps = []Step{StepCreate, StepSet, StepTest, StepFinish}

// ErrRefused says that the server does not take the new secret: nothing was
// finished, and the old one stays current.
var ErrRefused = errors.New("the server refuses the new secret")

// A Change is a secret on its way from one value to another.
type Change struct {
	// SecretID is the secret's ARN, or the name it was given by.
	SecretID string
	// Version is the version id of Pending. It is the same for every attempt at
	// one change: the key of idempotency.
	Version string
	// Current is the client secret that consumers use, Pending the one that they
	// are to use.
	Current, Pending secretsource.Secret
}

// A Setter changes the client secret at the authorization server.
//
// Implementations MUST be safe for concurrent use, honour ctx, and be
// idempotent: after a failure, or where nobody knows how it ended, Set is called
// again for the same version. The server MUST go on taking Current, for as long
// as consumers need to look the new one up (1 minute for smartcred), or requests
// fail meanwhile. No error holds a secret.
type Setter interface {
	// Set has the server take change.Pending.
	Set(ctx context.Context, change Change) error
}

// An Issuer is a Setter whose server makes the secrets itself. Most Setters
// need not implement it. Its Set is called all the same, after Issue.
type Issuer interface {
	Setter
	// Issue has the server issue a secret in the place of the one in current,
	// and returns the whole value to store; see [Value.With]. It is called again
	// if nothing could be stored after it returned, and MUST then come to a
	// value that the server takes. A value that comes with an error is stored
	// before the error is returned.
	//
	// keep stores a changed value whose client secret is still the current one,
	// as AWSCURRENT: for a token that the server replaced on the way.
	Issue(ctx context.Context, current Value, keep func(context.Context, Value) error) (Value, error)
}

// A Tester proves that the server takes the new secret.
//
// Implementations MUST be safe for concurrent use and honour ctx. No error holds
// a secret.
type Tester interface {
	// Test returns nil if the server takes change.Pending, and an error that
	// matches [ErrRefused] if it does not.
	Test(ctx context.Context, change Change) error
}

// TesterFunc makes a [Tester] of a function.
type TesterFunc func(ctx context.Context, change Change) error

// Test calls f.
func (f TesterFunc) Test(ctx context.Context, change Change) error { return f(ctx, change) }

// Options configure [New]. The zero value and nil are the defaults.
type Options struct {
	// Field is the member of the JSON object that holds the client secret;
	// empty: the value is the client secret alone.
	Field string
	// Length is how many characters a new secret has; 0: 43, which is the least.
	Length int
	// Logger is told of steps that are done, and by [Rotator.Handle] of those
	// that failed; nil: slog's default logger.
	Logger *slog.Logger
}

// A Rotator runs the steps of a rotation. It is safe for concurrent use.
type Rotator struct {
	store  store
	setter Setter
	tester Tester
	length int
	logger *slog.Logger
}

// New returns a Rotator. api is the SDK's client, or anything with these calls.
func New(api SecretsManager, setter Setter, tester Tester, opts *Options) (*Rotator, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var problems []error
	if api == nil {
		problems = append(problems, &smartcred.ConfigError{Option: "api", Problem: "is missing"})
	}
	if setter == nil {
		problems = append(problems, &smartcred.ConfigError{Option: "setter", Problem: "is missing: a Hook, a Registration or one of your own"})
	}
	if tester == nil {
		problems = append(problems, &smartcred.ConfigError{Option: "tester", Problem: "is missing: NewTokenTest makes one"})
	}
	o.Length = cmp.Or(o.Length, minLength)
	if o.Length < minLength || o.Length > maxLength {
		problems = append(problems, &smartcred.ConfigError{Option: "length", Problem: fmt.Sprintf("is not between %d characters, which have 256 bits, and %d", minLength, maxLength)})
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("secretrotator: new: %w", errors.Join(problems...))
	}
	return &Rotator{store: store{api: func() SecretsManager { return api }, field: o.Field}, setter: setter, tester: tester, length: o.Length, logger: o.Logger}, nil
}

func (r *Rotator) log(ctx context.Context, level slog.Level, msg string, attrs ...slog.Attr) {
	logger := r.logger
	if logger == nil {
		logger = slog.Default()
	}
	logger.LogAttrs(ctx, level, "smartcred: "+msg, attrs...)
}

// An Event is what Secrets Manager calls a rotation function with.
type Event struct {
	Step               Step          `json:"Step"`
	SecretID           string        `json:"SecretId"`
	ClientRequestToken string        `json:"ClientRequestToken"` // the version id
	RotationToken      RotationToken `json:"RotationToken"`
}

// A RotationToken is what Secrets Manager knows its own rotation by, where the
// function is in another account. It prints as [redacted], but not inside
// unexported fields.
type RotationToken string

// Format implements [fmt.Formatter]: [redacted], whatever the verb.
func (RotationToken) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (RotationToken) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
func (RotationToken) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "[redacted]"

// Handle runs one step for Secrets Manager; it is what lambda.Start takes. As
// AWS asks, rotation must be enabled and the version must be staged AWSPENDING;
// one that is AWSCURRENT is done with. Failures are logged, because Secrets
// Manager shows nobody the error.
func (r *Rotator) Handle(ctx context.Context, e Event) error {
	err := r.handle(ctx, e)
	if err != nil {
		r.log(ctx, slog.LevelError, "rotation step failed", slog.String("error", err.Error()))
	}
	return err
}

func (r *Rotator) handle(ctx context.Context, e Event) error {
	if !slices.Contains(Steps, e.Step) || e.SecretID == "" || e.ClientRequestToken == "" {
		return &smartcred.ConfigError{Option: "event", Problem: "secretrotator: is none of Secrets Manager's: it has a Step of createSecret, setSecret, testSecret, finishSecret, a SecretId and a ClientRequestToken"}
	}
	return r.step(ctx, e, true)
}

// step runs one step of a version that may be there in any state. Managed says
// that Secrets Manager asked for it, which then has staged the version.
func (r *Rotator) step(ctx context.Context, e Event, managed bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("secretrotator: %s: %w", e.Step, err)
		}
	}()
	secret, err := r.store.describe(ctx, e.SecretID)
	if err != nil {
		return err
	}
	j := &job{Rotator: r, event: e, secret: secret}
	_, known := secret.stages[e.ClientRequestToken]
	switch {
	case managed && !secret.rotationEnabled:
		return &smartcred.ConfigError{Option: "secret", Problem: "rotation is not enabled for it: run aws secretsmanager rotate-secret with --rotation-lambda-arn and --rotation-rules"}
	case secret.staged(e.ClientRequestToken, stageCurrent):
		if e.Step == StepFinish && secret.staged(e.ClientRequestToken, stagePending) {
			j.unlabel(ctx)
		}
		return nil
	case !known && !managed && e.Step == StepCreate:
	case !known:
		return &StoreError{Op: "find version " + e.ClientRequestToken, Err: fmt.Errorf("%w: it has no staging label: this rotation was cancelled, or another took its place; begin another", smartcred.ErrNotFound)}
	case secret.staged(e.ClientRequestToken, stagePrevious):
		return &smartcred.ConfigError{Option: "version", Problem: e.ClientRequestToken + " is staged AWSPREVIOUS: it was current before, and is not made so again; take AWSPENDING off it and rotate again"}
	case !secret.staged(e.ClientRequestToken, stagePending):
		return &smartcred.ConfigError{Option: "version", Problem: e.ClientRequestToken + " is not staged AWSPENDING: another rotation took its place, or this one was cancelled"}
	}
	if err := j.run(ctx); err != nil {
		return err
	}
	r.log(ctx, slog.LevelInfo, "rotation step done", j.attrs()...)
	return nil
}

func (j *job) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("step", string(j.event.Step)),
		slog.String("secret", j.secret.id),
		slog.String("version", j.event.ClientRequestToken),
	}
}
