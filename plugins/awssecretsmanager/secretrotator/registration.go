package secretrotator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
)

// A Registration is an [Issuer] that speaks to the client configuration endpoint
// of RFC 7592. A client can't choose its own secret there (section 2.2): the
// server issues one when the registration is updated, if it does at all, and may
// end the old one at once.
//
// The secret's value is a JSON object, see [Options].Field, with the client
// secret and, under the RFCs' own names,
//
//	registration_client_uri    where the registration is
//	registration_access_token  what it is read and changed with
//
// createSecret reads the registration (section 2.1) and sends it back unchanged
// (section 2.2). The secret that the server issues, client_secret_expires_at and
// a new registration access token become the value staged AWSPENDING before
// anything else is done; a token that is new before there is a secret is stored
// with the current one. Where the registration, when it is read, has another
// secret than the current one, an update went through that was not stored: that
// secret is taken and nothing is sent, unless it has ended.
type Registration struct {
	opts     RegistrationOptions
	exchange exchanger
}

var _ Issuer = (*Registration)(nil)

// RegistrationOptions configure [NewRegistration]. ClientID is required, and
// either Overlap or NoOverlap.
type RegistrationOptions struct {
	// ClientID is whose registration it is. An answer about another is refused.
	ClientID string
	// Overlap is how long the server takes the old secret beside the new one, as
	// its operator says: no protocol tells. At least 2 minutes, so that
	// consumers find the new one first.
	Overlap time.Duration
	// NoOverlap accepts that the server ends the old secret at once. Until
	// finishSecret, which follows within seconds, requests for new tokens fail.
	NoOverlap bool
	// HTTPClient is copied; nil: one that speaks TLS 1.2 or later. Its Jar and
	// CheckRedirect are not used.
	HTTPClient *http.Client
	// Timeout bounds each request; 0: 30 s. An update that has begun ends by it
	// alone: what the server issues is stored though the caller's context ended.
	Timeout time.Duration
	// AllowInsecureLoopback accepts http, on loopback addresses only.
	AllowInsecureLoopback bool
}

// minOverlap is the least that lets consumers, who look again after a minute,
// find the new secret while the old one serves.
const minOverlap = 2 * time.Minute

// NewRegistration returns a Registration. Without an overlap it is refused,
// unless NoOverlap says that this is known.
func NewRegistration(opts RegistrationOptions) (*Registration, error) {
	var problems []error
	bad := func(option, problem string) {
		problems = append(problems, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	if opts.ClientID == "" {
		bad("client_id", "is missing")
	}
	switch {
	case opts.NoOverlap && opts.Overlap != 0:
		bad("no_overlap", "contradicts overlap: state one of them")
	case !opts.NoOverlap && opts.Overlap == 0:
		bad("overlap", "is missing: a server may end the old secret when it issues the new one (RFC 7592 section 2.2), and requests fail until the rotation is finished. Ask its operator how long it takes both and state that, or accept the gap with no_overlap")
	case !opts.NoOverlap && opts.Overlap < minOverlap:
		bad("overlap", "is under 2 minutes, in which not every consumer finds the new secret; no_overlap accepts the gap")
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("secretrotator: new registration: %w", errors.Join(problems...))
	}
	return &Registration{opts: opts, exchange: newExchanger(opts.HTTPClient, opts.Timeout)}, nil
}

// The members that are the server's to issue, RFC 7591 section 3.2.1 and RFC
// 7592 section 3.
const (
	memberURI    = "registration_client_uri"
	memberToken  = "registration_access_token"
	memberID     = "client_id"
	memberSecret = "client_secret"
	memberIssued = "client_id_issued_at"
)

// Set implements [Setter]: the server knows the secret, because it made it.
func (g *Registration) Set(context.Context, Change) error { return nil }

// Issue implements [Issuer].
func (g *Registration) Issue(ctx context.Context, current Value, keep func(context.Context, Value) error) (Value, error) {
	endpoint, token, err := g.access(current)
	if err != nil {
		return Value{}, err
	}
	registered, err := g.read(ctx, endpoint, token)
	if err != nil {
		return Value{}, err
	}
	if g.isNew(current, registered) {
		next, doubt := g.pending(current, registered)
		if !ended(next.number(expiresAt)) {
			return next, doubt
		}
		// It serves nobody: another one is asked for.
	}
	if _, changed := newToken(current, registered); changed {
		if current, err = g.keepToken(ctx, current, registered, keep); err != nil {
			return Value{}, err
		}
		if endpoint, token, err = g.access(current); err != nil {
			return Value{}, err
		}
	}
	body, err := update(registered)
	if err != nil {
		return Value{}, err
	}
	if err := ctx.Err(); err != nil {
		return Value{}, err
	}
	// What the server issues is said once: a caller that goes away does not lose it.
	updated, err := g.exchange.do(context.WithoutCancel(ctx), http.MethodPut, endpoint, token, body)
	switch {
	case errors.Is(err, errNoAnswer):
		return Value{}, fmt.Errorf("update the registration: %w; the server may have issued a secret all the same, and take the old one no more: run createSecret for this version again at once, which reads it from the server", err)
	case err != nil:
		return Value{}, fmt.Errorf("update the registration: %w", err)
	case g.isNew(current, updated):
		return g.pending(current, updated)
	}
	if _, changed := newToken(current, updated); changed {
		if _, err := g.keepToken(ctx, current, updated, keep); err != nil {
			return Value{}, err
		}
	}
	return Value{}, &smartcred.ConfigError{Option: "registration", Problem: "the server took the update and issued no new secret, as RFC 7592 section 2.2 lets it: have its operator change the secret, or write a hook"}
}

// access returns where the registration is and what opens it.
func (g *Registration) access(v Value) (endpoint, token string, err error) {
	endpoint, _ = v.Member(memberURI)
	token, _ = v.Member(memberToken)
	if err := checkURL(memberURI, endpoint, g.opts.AllowInsecureLoopback); err != nil {
		return "", "", fmt.Errorf("the secret's value: %w", err)
	}
	if !isBearer(token) {
		return "", "", fmt.Errorf("the secret's value: %w", &smartcred.ConfigError{Option: memberToken, Problem: "is missing, or no Bearer token: the server gave it out at the registration (RFC 7591 section 3.2.1)"})
	}
	return endpoint, token, nil
}

func (g *Registration) read(ctx context.Context, endpoint, token string) (*strictjson.Obj, error) {
	registered, err := g.exchange.do(ctx, http.MethodGet, endpoint, token, nil)
	switch {
	case errors.Is(err, smartcred.ErrDenied):
		return nil, fmt.Errorf("read the registration: %w: the server does not take the registration access token; if it made another that could not be stored, have its operator issue one and put it into AWSCURRENT", err)
	case err != nil:
		return nil, fmt.Errorf("read the registration: %w", err)
	}
	if id, _ := registered.String(memberID); id != g.opts.ClientID {
		return nil, &smartcred.ConfigError{Option: "client_id", Problem: "the registration is another client's: compare client_id with registration_client_uri"}
	}
	return registered, nil
}

// isNew reports whether an answer has another secret than the current one.
func (g *Registration) isNew(current Value, answer *strictjson.Obj) bool {
	secret, _ := answer.String(memberSecret)
	return secret != "" && secret != string(current.Secret().Reveal())
}

// newToken returns the registration access token of an answer, if it is another.
func newToken(current Value, answer *strictjson.Obj) (string, bool) {
	token, _ := answer.String(memberToken)
	old, _ := current.Member(memberToken)
	return token, token != "" && token != old
}

// pending is the value with all that the server issued. It is complete before
// anything about the answer is doubted.
func (g *Registration) pending(current Value, answer *strictjson.Obj) (Value, error) {
	secret, _ := answer.String(memberSecret)
	raw, _ := answer.Raw(expiresAt)
	end, doubt := expiry(raw)
	members := issued(current, answer)
	members[expiresAt] = end
	next, err := current.With(secret, members)
	if err != nil {
		return Value{}, err
	}
	if id, _ := answer.String(memberID); id != g.opts.ClientID {
		doubt = errors.Join(doubt, errors.New("the answer with the new secret is about another client_id"))
	}
	return next, doubt
}

// expiry reads client_secret_expires_at: whole seconds since 1970, or 0.
func expiry(raw json.RawMessage) (int64, error) {
	if len(raw) == 0 {
		return 0, nil // REQUIRED beside a secret, and left out by some all the same
	}
	var end int64
	if json.Unmarshal(raw, &end) != nil || end < 0 || bytes.Equal(raw, []byte("null")) {
		return 0, errors.New("client_secret_expires_at is no time: the secret is stored as one that does not end")
	}
	return end, nil
}

// issued are the members of the value that the answer changes beside the secret.
// Another registration_client_uri is taken on the origin of the old one only: the
// next token goes there.
func issued(current Value, answer *strictjson.Obj) map[string]any {
	members := map[string]any{}
	if token, changed := newToken(current, answer); changed {
		members[memberToken] = token
	}
	uri, _ := answer.String(memberURI)
	old, _ := current.Member(memberURI)
	if uri != "" && sameOrigin(uri, old) {
		members[memberURI] = uri
	}
	return members
}

func sameOrigin(a, b string) bool {
	u, errA := url.Parse(a)
	v, errB := url.Parse(b)
	return errA == nil && errB == nil && u.User == nil && strings.EqualFold(u.Scheme, v.Scheme) && strings.EqualFold(u.Host, v.Host)
}

// keepToken stores a registration access token that came without a new secret:
// the server may take the old one no more.
func (g *Registration) keepToken(ctx context.Context, current Value, answer *strictjson.Obj, keep func(context.Context, Value) error) (Value, error) {
	kept, err := current.With(string(current.Secret().Reveal()), issued(current, answer))
	if err == nil {
		err = keep(ctx, kept)
	}
	if err != nil {
		return Value{}, fmt.Errorf("the server made a new registration access token, which is not stored: if the old one is refused, have its operator issue another and put it into AWSCURRENT: %w", err)
	}
	return kept, nil
}

// update is the body of an update that changes nothing: all members as they were
// read, but for those that the server issues (RFC 7592 section 2.2).
func update(registered *strictjson.Obj) ([]byte, error) {
	body := map[string]json.RawMessage{}
	for _, name := range registered.Names {
		if !slices.Contains([]string{memberToken, memberURI, memberSecret, memberIssued, expiresAt}, name) {
			body[name], _ = registered.Raw(name)
		}
	}
	text, err := encode(body)
	if err != nil {
		return nil, errors.New("the registration can't be sent back")
	}
	return text, nil
}
