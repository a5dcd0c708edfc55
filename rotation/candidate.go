package rotation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// A Scope is what state is kept for: one client at one server.
type Scope struct{ ClientID, Server string }

// A Stage is a credential's place in its own life.
type Stage int

const (
	Current  Stage = iota // the one to use
	Previous              // the one before it
	Staged                // published, and not in use yet: keys only
)

// String returns "current", "previous" or "staged".
func (s Stage) String() string {
	switch s {
	case Previous:
		return "previous"
	case Staged:
		return "staged"
	default:
		return "current"
	}
}

// A Candidate is a credential that may be sent.
type Candidate[C any] struct {
	// Identity is what makes it the same credential: a secret's value, a key's
	// thumbprint. Never a version number, which a restored backend may use
	// twice. The engine keeps an HMAC of it.
	Identity []byte
	// Version and KeyID name it in logs.
	Version, KeyID string
	Stage          Stage
	// LastResort says that it could not be used lately: it comes last.
	LastResort bool
	// Late says that it is used past its time, because the server still takes
	// no newer one: a warning a day says so.
	Late bool
	// Value is handed to Send.
	Value C
}

// Format implements [fmt.Formatter]: stage, version and kid, whatever the verb.
// The identity may be a secret.
func (c Candidate[C]) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.name()) }

// LogValue implements [slog.LogValuer].
func (c Candidate[C]) LogValue() slog.Value { return slog.StringValue(c.name()) }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
func (c Candidate[C]) MarshalText() ([]byte, error) { return []byte(c.name()), nil }

func (c Candidate[C]) name() string {
	return fmt.Sprintf("%s credential (version %s, kid %s)", c.Stage, c.Version, c.KeyID)
}

// Candidates are where an engine's candidates come from, for one call.
type Candidates[C any] interface {
	// Current returns the current credential. Its error ends the call: what is
	// revoked is not replaced by what was before it.
	Current(ctx context.Context) (Candidate[C], error)
	// Others returns the previous credential, then the staged ones, oldest
	// first. It is called only when one of them is needed. inForce reports
	// whether this server took that identity last. No others is no error; with
	// an error, what it returns is used all the same.
	Others(ctx context.Context, inForce func(identity []byte) bool) ([]Candidate[C], error)
	// Newer looks the current credential up past every cache, because than was
	// refused; for all callers of a source at most once in 2 s.
	Newer(ctx context.Context, than Candidate[C]) (Candidate[C], error)
}

// A Call is one request that needs a credential.
type Call[C any] struct {
	Scope      Scope
	Candidates Candidates[C]
	// Send makes the request with one credential. It is never called
	// concurrently. A [NotSentError] says that this credential can't be used
	// and that the server saw nothing; the next one is tried.
	Send func(ctx context.Context, credential C) error
	// Refused reports whether Send's error is a refusal of the credential. Any
	// other error ends the call.
	Refused func(error) bool
	// Hopeless, if set, reports whether another credential would be refused for
	// the same reason: clocks that differ, for example.
	Hopeless func(error) bool
	// SingleUse says that the request carries a grant that can be used up. Its
	// refusals change the state only once another credential worked.
	SingleUse bool
	// MaxSends lowers the policy's limit; 0: the policy's.
	MaxSends int
}

// A NotSentError is Send's word that a credential can't be used now, and that
// the server saw nothing of it.
type NotSentError struct{ Err error }

// Error implements error.
func (e *NotSentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NotSentError) Unwrap() error { return e.Err }

// A RefusedError says that the server refused every credential that was sent,
// or that none is sent because it did so before. It matches the causes with
// [errors.Is] and [errors.As].
type RefusedError struct {
	Scope Scope
	// Attempts are the credentials tried, current first; none where a back-off
	// was taken over from a former process.
	Attempts []Attempt
	// Until is when one caller tries again, unless the source has another value
	// before; zero if nothing holds the next call up.
	Until time.Time
	// BudgetSpent says that credentials that never worked at this server have
	// been refused too often for another try now.
	BudgetSpent bool
	// Lookup is why further credentials could not be looked up; nil if they could.
	Lookup error
}

// An Attempt is one credential that a call tried.
type Attempt struct {
	Version, KeyID string
	Stage          Stage
	Err            error
}

// Error implements error. It names the versions tried.
func (e *RefusedError) Error() string {
	var b strings.Builder
	switch {
	case e.BudgetSpent:
		b.WriteString("the server has refused credentials that never worked there too often: nothing more is sent")
	case len(e.Attempts) == 0:
		b.WriteString("the server refused every credential before: nothing is sent")
	default:
		b.WriteString("the server refused every credential")
	}
	if !e.Until.IsZero() {
		fmt.Fprintf(&b, " until %s or the source has another value", e.Until.UTC().Format(time.RFC3339))
	}
	for i, a := range e.Attempts {
		b.WriteString(map[bool]string{true: ": ", false: "; "}[i == 0])
		fmt.Fprintf(&b, "%s (version %s", a.Stage, a.Version)
		if a.KeyID != "" && a.KeyID != a.Version {
			fmt.Fprintf(&b, ", kid %s", a.KeyID)
		}
		fmt.Fprintf(&b, "): %v", a.Err)
	}
	if e.Lookup != nil {
		fmt.Fprintf(&b, "; others could not be looked up: %v", e.Lookup)
	}
	return b.String()
}

// Unwrap returns the causes.
func (e *RefusedError) Unwrap() []error {
	var errs []error
	for _, a := range e.Attempts {
		errs = append(errs, a.Err)
	}
	if e.Lookup != nil {
		errs = append(errs, e.Lookup)
	}
	return errs
}

func isNotSent(err error) bool {
	var notSent *NotSentError
	return errors.As(err, &notSent)
}
