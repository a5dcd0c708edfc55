package smartauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/provider"
)

// An Introspection is what a server says about a token: RFC 7662 section 2.2
// with SMART's launch context. For a token that is not active all but Active is
// zero. It is immutable.
type Introspection struct {
	// Active says whether the token may be used now. The rest means nothing
	// without it.
	Active bool
	// Scopes are the token's scopes, in the server's order.
	Scopes []string
	// ClientID is whom the token was issued to.
	ClientID string
	// Issuer and Subject are those of the id token that was issued with it.
	Issuer, Subject string
	// FHIRUser is the absolute URL of the user at the FHIR base; empty if the
	// server names none, or something else.
	FHIRUser string
	// Expiry and IssuedAt are zero where the server does not say.
	Expiry, IssuedAt time.Time
	// Context is the launch context.
	Context LaunchContext

	answer func() []byte
}

// Member returns a copy of one member of the answer as it was sent, under its
// exact name.
func (i *Introspection) Member(name string) (json.RawMessage, bool) {
	if i == nil || i.answer == nil {
		return nil, false
	}
	o, err := strictjson.Object(bytes.Clone(i.answer()))
	if err != nil {
		return nil, false
	}
	return o.Raw(name)
}

// IntrospectOptions say how the caller shows that it may introspect.
type IntrospectOptions struct {
	// Bearer is an access token of the caller's own, which SMART's servers
	// take; nil: the client authenticates through its Provider (RFC 7662
	// section 2.1).
	Bearer *Token
	// TokenTypeHint is "access_token" or "refresh_token"; empty: the server finds out.
	TokenTypeHint string
}

// Introspect asks the server about an access or refresh token, which may be of
// any client: SMART App Launch "Token Introspection". That a token is not active
// is an answer, not an error. Errors match [ErrNotSupported] where the server
// has no introspection endpoint and [ErrEndpointNotAllowed] where it is on
// another origin than the token endpoint and not in [Config.AllowedAuthHosts];
// others are [provider.TokenError], [ServerError] and the Provider's own.
func (c *Client) Introspect(ctx context.Context, token string, opts *IntrospectOptions) (*Introspection, error) {
	var o IntrospectOptions
	if opts != nil {
		o = *opts
	}
	if token == "" || o.Bearer != nil && o.Bearer.AccessToken() == "" {
		return nil, fmt.Errorf("smartauth: introspection: there is no token: %w", provider.ErrInvalidRequest)
	}
	r := &sideRequest{
		op: "introspection", name: "introspection_endpoint", bearer: o.Bearer, token: token, hint: o.TokenTypeHint,
		endpoint: func(doc *Configuration) string { return doc.IntrospectionEndpoint },
	}
	var result *Introspection
	err := c.sendSide(ctx, r, func(a *answer) (err error) {
		result, err = parseIntrospection(a.body, c.cfg.BaseURL)
		return err
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

func parseIntrospection(body []byte, base string) (*Introspection, error) {
	o, err := strictjson.Object(body)
	if err != nil {
		return nil, err
	}
	active, state := o.Bool("active")
	if state != strictjson.Present {
		return nil, errors.New("no introspection answer: active is not there or no boolean")
	}
	if len(o.Duplicates) > 0 {
		return nil, errors.New("a member appears twice")
	}
	i := &Introspection{Active: active, answer: func() []byte { return body }}
	if !active {
		return i, nil
	}
	scope, _ := o.String("scope")
	i.Scopes = strings.Fields(scope)
	i.ClientID, _ = o.String("client_id")
	i.Issuer, _ = o.String("iss")
	i.Subject, _ = o.String("sub")
	user, _ := o.String("fhirUser")
	i.FHIRUser, _ = resolveFHIRUser(base, user)
	i.Expiry = numericDate(o, "exp")
	i.IssuedAt = numericDate(o, "iat")
	reader := answerReader{Obj: o}
	i.Context = reader.launchContext()
	return i, nil
}

// numericDate reads a NumericDate (RFC 7519 section 2); zero if there is none.
func numericDate(o *strictjson.Obj, name string) time.Time {
	raw, _ := o.Raw(name)
	if strictjson.Kind(raw) != "number" {
		return time.Time{}
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds < 0 || seconds > math.MaxUint32<<8 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// A sideRequest sends a token to an endpoint beside the token endpoint.
type sideRequest struct {
	op, name    string
	endpoint    func(*Configuration) string
	bearer      *Token // authenticates; nil: the Provider does
	token, hint string
}

// sendSide sends r and has a successful answer read by read.
func (c *Client) sendSide(ctx context.Context, r *sideRequest, read func(*answer) error) error {
	return c.run(ctx, func(ctx context.Context) error {
		endpoint, err := c.sideEndpoint(ctx, r)
		if err != nil {
			return err
		}
		tokenEndpoint, algorithms, err := c.tokenEndpoint(ctx)
		if err != nil {
			return err
		}
		send := func(ctx context.Context, cred provider.Credential) error {
			if err := c.checkTokenEndpoint(ctx, tokenEndpoint, false); err != nil {
				return err
			}
			form := url.Values{"token": {r.token}}
			if r.hint != "" {
				form.Set("token_type_hint", r.hint)
			}
			a, err := c.post(ctx, r.op, endpoint, form, cred)
			if err != nil {
				return err
			}
			if err := a.oauthError(redact.New(append(cred.Sensitive(), []byte(r.token))...)); err != nil {
				return err
			}
			if a.status < 200 || a.status > 299 {
				a.problem.Err = statusProblem(a.status)
				return a.problem
			}
			if err := read(&a); err != nil {
				a.problem.Err = err
				return a.problem
			}
			return nil
		}
		if r.bearer != nil {
			return send(ctx, bearerCredential(r.bearer))
		}
		// An assertion names the token endpoint here too: RFC 7523 section 3 has
		// it identify the authorization server, and servers know no other name.
		return c.cfg.Provider.Authenticate(ctx, provider.Request{
			ClientID: c.cfg.ClientID, Server: c.cfg.BaseURL, URL: tokenEndpoint, Issuer: c.cfg.Issuer, Algorithms: algorithms,
		}, send)
	})
}

func bearerCredential(t *Token) provider.Credential {
	return provider.NewCredential(provider.CredentialOptions{
		Header:    http.Header{"Authorization": {t.values().header}},
		Sensitive: [][]byte{[]byte(t.AccessToken())},
	})
}

// sideEndpoint returns the endpoint of r. Tokens are for the server that issued
// them: unless AllowedAuthHosts says otherwise they are not sent to another
// origin than the token endpoint's because a document names it.
func (c *Client) sideEndpoint(ctx context.Context, r *sideRequest) (string, error) {
	doc, err := c.Discover(ctx)
	if err != nil {
		return "", err
	}
	endpoint := r.endpoint(doc)
	if endpoint == "" {
		return "", fmt.Errorf("smartauth: %s: the SMART configuration has no usable %s: %w", r.op, r.name, ErrNotSupported)
	}
	if err := c.allow(r.name, endpoint); err != nil {
		return "", err
	}
	if len(c.cfg.AllowedAuthHosts) > 0 {
		return endpoint, nil
	}
	tokenEndpoint, _, err := c.tokenEndpoint(ctx)
	if err != nil {
		return "", err
	}
	if !sameOriginURLs(endpoint, tokenEndpoint) {
		return "", fmt.Errorf("smartauth: %s: %s is on another origin than the token endpoint; state allowed_auth_hosts if that is meant: %w", r.op, r.name, ErrEndpointNotAllowed)
	}
	return endpoint, nil
}
