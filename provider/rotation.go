package provider

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

// A RefusedError says that the server refused every credential that there is, or
// did so lately; see [rotation.RefusedError].
type RefusedError = rotation.RefusedError

// ErrRevoked says that a credential may not be used any more: its backend took
// it out of use, or the configuration did.
var ErrRevoked = errors.New("credential is revoked")

// A Checker is a [Provider] that can say, later, whether the credential that a
// token was got with may still be used. Package smartauth asks it about once a
// minute for a token in use, and drops the tokens of revoked credentials.
type Checker interface {
	// Check returns [ErrRevoked] if the credential of that identity
	// ([Credential].Identity) may not be used any more. Any other error means
	// that nobody knows now.
	Check(ctx context.Context, identity string) error
}

// PreviousUse says whether the previous credential is used.
type PreviousUse string

const (
	// PreviousOnRefusal: where a server refuses the current one. The default.
	PreviousOnRefusal PreviousUse = "on_refusal"
	// PreviousNever: not at all, because it leaked, for example.
	PreviousNever PreviousUse = "never"
)

// A Refusal is an answer that counts as a refusal of the credential beside
// invalid_client with a 4xx status, for servers that do not keep to RFC 6749
// section 5.2. It does so for client_credentials only: never for a code or
// refresh token.
type Refusal string

// The values of [RotationOptions].AlsoRefusal.
const (
	RefusalInvalidGrant Refusal = "invalid_grant" // the error invalid_grant with a 4xx status
	RefusalBare401      Refusal = "bare_401"      // status 401 without an OAuth error
	RefusalServerError  Refusal = "server_error"  // the error invalid_client with a 5xx status
)

// Refusals are the values of [RotationOptions].AlsoRefusal.
var Refusals = []Refusal{RefusalInvalidGrant, RefusalBare401, RefusalServerError}

// RotationOptions say what happens when a server refuses a credential. The zero
// value and nil are the defaults: rotation is on.
type RotationOptions struct {
	// Policy holds the numbers.
	Policy rotation.Policy
	// Memory carries what was learned over restarts; nil: it is kept in this process.
	Memory rotation.Memory
	// Previous says whether the previous credential is used; empty: on refusal.
	// Never takes a previous key out of the JWK Set too; a [signer.KeySet] that
	// was made before is told so by its own option WithoutPrevious.
	Previous PreviousUse
	// Overlap is how long after the current credential became current the
	// previous one is used, where the backend tells when that was; 0: 7 days.
	// What is in force at a server is not taken away by it.
	Overlap time.Duration
	// AlsoRefusal are answers that count as refusals beside the standard one.
	AlsoRefusal []Refusal
	// Revoked are versions (or kids) that are never used. SetRevoked replaces them.
	Revoked []string
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

const (
	defaultOverlap = 7 * 24 * time.Hour
	// hopelessSkew is the difference of clocks that explains why a server
	// refuses an assertion: another key would not help.
	hopelessSkew = 60 * time.Second
)

// A rotator is what the methods with credentials share: C is a secret or a key.
type rotator[C any] struct {
	engine  *rotation.Engine[C]
	opts    RotationOptions
	revoked atomic.Pointer[[]string]
	// hopeless reports whether another credential would be refused too; nil: never.
	hopeless func(error) bool
}

func newRotator[C any](method Method, opts *RotationOptions, observer smartcred.Observer) (*rotator[C], error) {
	r := new(rotator[C])
	if opts != nil {
		r.opts = *opts
	}
	if r.opts.Observer == nil {
		r.opts.Observer = observer
	}
	switch r.opts.Previous {
	case "":
		r.opts.Previous = PreviousOnRefusal
	case PreviousOnRefusal, PreviousNever:
	default:
		return nil, &smartcred.ConfigError{Option: "previous", Problem: "is neither on_refusal nor never"}
	}
	for _, refusal := range r.opts.AlsoRefusal {
		if !slices.Contains(Refusals, refusal) {
			return nil, &smartcred.ConfigError{Option: "also_refusal", Problem: "has a value that is none of invalid_grant, bare_401, server_error"}
		}
	}
	if r.opts.Overlap < 0 {
		return nil, &smartcred.ConfigError{Option: "overlap", Problem: "is negative; previous never says that there is none"}
	}
	if r.opts.Overlap == 0 {
		r.opts.Overlap = defaultOverlap
	}
	revoked := slices.Clone(r.opts.Revoked)
	r.revoked.Store(&revoked)
	r.engine = rotation.New[C](&rotation.Options{
		Policy: r.opts.Policy, Memory: r.opts.Memory, Method: string(method), Observer: r.opts.Observer,
	})
	return r, nil
}

// do makes a request with the credentials that candidates has.
func (r *rotator[C]) do(ctx context.Context, req Request, candidates rotation.Candidates[C], send func(context.Context, C) error) error {
	return r.engine.Do(ctx, rotation.Call[C]{
		Scope:      scopeOf(req),
		Candidates: candidates,
		Send:       send,
		Refused:    r.refused(req.GrantType),
		Hopeless:   r.hopeless,
		SingleUse:  req.GrantType != grantClientCredentials,
		MaxSends:   req.MaxSends,
	})
}

const grantClientCredentials = "client_credentials"

func scopeOf(req Request) rotation.Scope {
	return rotation.Scope{ClientID: req.ClientID, Server: req.Server}
}

// refused is the policy of what counts as a refusal.
func (r *rotator[C]) refused(grant string) func(error) bool {
	also := func(refusal Refusal) bool {
		return grant == grantClientCredentials && slices.Contains(r.opts.AlsoRefusal, refusal)
	}
	return func(err error) bool {
		var oauth *TokenError
		if errors.As(err, &oauth) {
			client4xx := oauth.Status >= 400 && oauth.Status < 500 && oauth.Status != http.StatusTooManyRequests
			switch {
			case errors.Is(oauth, ErrInvalidClient):
				return client4xx || oauth.Status >= 500 && also(RefusalServerError)
			case errors.Is(oauth, ErrInvalidGrant):
				return client4xx && also(RefusalInvalidGrant)
			}
			return false
		}
		var bare interface{ HTTPStatus() int }
		return errors.As(err, &bare) && bare.HTTPStatus() == http.StatusUnauthorized && also(RefusalBare401)
	}
}

// explainedBySkew reports whether the clocks differ so much that any assertion
// would have been refused.
func explainedBySkew(err error) bool {
	var oauth *TokenError
	return errors.As(err, &oauth) && oauth.Skew.Abs() > hopelessSkew
}

// A Status is what is known about one client at one server.
type Status struct {
	rotation.Status
	// Degraded says why what is cached serves on, although its source or signer
	// can't be asked; nil if it can.
	Degraded error
}

// A Rotator is a [Provider] with several credentials: all of this package but
// [Public].
type Rotator interface {
	Provider
	Checker
	// Status returns what is known about a client at a server, named by its FHIR
	// base URL as in [Request].
	Status(ctx context.Context, clientID, server string) Status
	// Reset forgets it: refusals, back-off and budget hold nothing up after it.
	Reset(ctx context.Context, clientID, server string)
	// SetRevoked replaces the versions (or kids) that are never used.
	SetRevoked(ctx context.Context, revoked []string)
}

// late reports whether a previous credential is past its time, given when the
// current one became current; zero if nobody knows.
func (r *rotator[C]) late(since time.Time) bool {
	return !since.IsZero() && time.Since(since) > r.opts.Overlap
}

func (r *rotator[C]) isRevoked(names ...string) bool {
	for _, name := range names {
		if name != "" && slices.Contains(*r.revoked.Load(), name) {
			return true
		}
	}
	return false
}

func (r *rotator[C]) setRevoked(revoked []string) {
	revoked = slices.Clone(revoked)
	r.revoked.Store(&revoked)
}
