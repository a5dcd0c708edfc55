package smartauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/strictjson"
)

// authorizationParams are what [Client.StartLaunch] sets itself, what would take
// their place (RFC 9101), and what would ask for an answer that
// [Client.Exchange] does not read, or does not check.
var authorizationParams = []string{
	"response_type", "client_id", "redirect_uri", "scope", "state", "aud", "launch", "nonce",
	"code_challenge", "code_challenge_method",
	"response_mode", // the callback is read from a query or a form
	"max_age",       // auth_time is not looked at; SMART forbids it
	"request", "request_uri",
}

// LaunchOptions say how an app is launched. The zero value, and nil, is a
// standalone launch with the client's own scopes.
type LaunchOptions struct {
	// Launch and Issuer are the launch and iss query values with which an EHR
	// opened the app; both are empty in a standalone launch. An Issuer that is
	// not the client's BaseURL, but for a slash at its end, is refused, so that
	// nobody can point the app at a server of their own.
	Launch, Issuer string
	// Scopes replace [Config.Scopes]; nil: those. An EHR launch needs the scope
	// launch among them.
	Scopes []string
	// Params are added to the authorization request: prompt, login_hint and the
	// like. Refused are those that StartLaunch sets (response_type, client_id,
	// redirect_uri, scope, state, aud, launch, nonce, code_challenge,
	// code_challenge_method), that would take their place (request, request_uri)
	// or change the answer (response_mode, max_age), and those of a token request
	// that have no place in a browser (grant_type, client_secret,
	// client_assertion, client_assertion_type, code, code_verifier,
	// refresh_token, username, password, assertion).
	Params url.Values
}

// A Launch is a pending authorization request: what to send the browser to, and
// what [Client.Exchange] needs when it comes back. It prints as [redacted]
// everywhere, completes once, and must be kept where only this user's browser
// session finds it: in memory, or by [Launch.Save].
type Launch struct{ secret func() *launchState }

type launchState struct {
	server, clientID       string
	state, verifier, nonce string // nonce is empty without the scope openid
	redirectURL            string
	scopes                 []string
	issuer                 string // expected in the callback; empty if not known yet
	issRequired            bool   // the server says that it always sends iss
	tokenOrigin            string // where the code may go
	started                time.Time
	endpoint               string     // without what params replaces; empty after RestoreLaunch
	params                 url.Values // of the authorization request

	used atomic.Bool
}

// StartLaunch begins the authorization code flow with PKCE, SMART App Launch
// "Obtain authorization code". It makes no request but for discovery, and that
// only where [Config.AuthorizationEndpoint] and [Config.TokenEndpoint] are not
// both stated. Where the server has users' identities, or says that it sends iss,
// an issuer on another origin than the token endpoint is asked whether it is the
// server's; [Config.Issuer] makes that needless.
//
// The code that comes back goes to the token endpoint's origin of now only.
//
// Errors match [ErrIssuerMismatch], [smartcred.ErrInvalidConfig],
// [ErrNotSupported] (no authorization endpoint), [ErrEndpointNotAllowed], or are
// those of [Client.Discover].
func (c *Client) StartLaunch(ctx context.Context, opts *LaunchOptions) (*Launch, error) {
	var o LaunchOptions
	if opts != nil {
		o = *opts
	}
	if o.Scopes == nil {
		o.Scopes = c.cfg.Scopes
	}
	if err := c.checkLaunch(o); err != nil {
		return nil, fmt.Errorf("smartauth: start launch: %w", err)
	}
	s := &launchState{
		server: c.cfg.BaseURL, clientID: c.cfg.ClientID,
		state: randomText(), verifier: NewCodeVerifier(),
		redirectURL: c.cfg.RedirectURL, scopes: slices.Clone(o.Scopes), issuer: c.cfg.Issuer,
	}
	if slices.Contains(s.scopes, scopeOpenID) {
		s.nonce = randomText()
	}
	err := c.run(ctx, func(ctx context.Context) (err error) {
		if s.endpoint, err = c.authorizationEndpoint(ctx, s); err != nil {
			return err
		}
		tokenEndpoint, _, err := c.tokenEndpoint(ctx)
		if err != nil {
			return err
		}
		s.tokenOrigin = originOf(tokenEndpoint)
		return c.checkTokenEndpoint(ctx, tokenEndpoint, false)
	})
	if err != nil {
		return nil, err
	}
	challenge, err := CodeChallenge(s.verifier)
	if err != nil {
		return nil, err
	}
	s.params = cloneValues(o.Params)
	maps.Copy(s.params, url.Values{
		"response_type": {"code"}, "client_id": {s.clientID}, "redirect_uri": {s.redirectURL},
		"scope": {strings.Join(s.scopes, " ")}, "state": {s.state}, "aud": {c.cfg.BaseURL},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	})
	if o.Launch != "" {
		// SMART App Launch: aud is the iss that the EHR sent, to the letter.
		s.params.Set("aud", o.Issuer)
		s.params.Set("launch", o.Launch)
	}
	if s.nonce != "" {
		s.params.Set("nonce", s.nonce)
	}
	s.endpoint = withoutParams(s.endpoint, s.params)
	s.started = time.Now()
	return &Launch{secret: func() *launchState { return s }}, nil
}

const (
	scopeOpenID = "openid"
	scopeLaunch = "launch"
)

func (c *Client) checkLaunch(o LaunchOptions) error {
	if (o.Launch != "" || o.Issuer != "") && strings.TrimRight(o.Issuer, "/") != c.cfg.BaseURL {
		return fmt.Errorf("the EHR's iss is not this client's FHIR base URL: %w", ErrIssuerMismatch)
	}
	var problems []error
	bad := func(option, problem string) {
		problems = append(problems, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	if c.cfg.RedirectURL == "" {
		bad("redirect_url", "is missing")
	}
	switch {
	case len(o.Scopes) == 0:
		bad("scopes", "are missing")
	case slices.ContainsFunc(o.Scopes, func(s string) bool { return !isScopeToken(s) }):
		bad("scopes", "has an entry that is no scope of RFC 6749 section 3.3; give one scope an entry")
	case o.Launch != "" && !slices.Contains(o.Scopes, scopeLaunch):
		bad("scopes", "lacks launch, which an EHR launch needs")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Params)) {
		if slices.Contains(authorizationParams, name) || slices.Contains(reservedParams, name) {
			bad("params", fmt.Sprintf("%q is reserved", name))
		}
	}
	return errors.Join(problems...)
}

func isScopeToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// authorizationEndpoint returns where to send the browser, and keeps in s what
// discovery says about the callback.
func (c *Client) authorizationEndpoint(ctx context.Context, s *launchState) (string, error) {
	if c.cfg.AuthorizationEndpoint != "" {
		return c.cfg.AuthorizationEndpoint, nil
	}
	doc, err := c.Discover(ctx)
	if err != nil {
		return "", err
	}
	if doc.AuthorizationEndpoint == "" {
		return "", fmt.Errorf("smartauth: start launch: the SMART configuration has no usable authorization_endpoint: %w", ErrNotSupported)
	}
	if err := c.allow("authorization_endpoint", doc.AuthorizationEndpoint); err != nil {
		return "", err
	}
	if err := c.checkAuthorizationEndpoint(ctx, doc.AuthorizationEndpoint); err != nil {
		return "", err
	}
	s.issRequired = doc.AuthorizationResponseIss
	if s.nonce != "" || s.issRequired {
		if s.issuer, err = c.issuer(ctx, doc); err != nil {
			return "", fmt.Errorf("smartauth: start launch: %w", err)
		}
	}
	return doc.AuthorizationEndpoint, nil
}

// withoutParams removes from the endpoint's query what params has, so that no
// parameter is sent twice (RFC 6749 section 3.1), and keeps the rest as it is.
func withoutParams(endpoint string, params url.Values) string {
	base, query, ok := strings.Cut(endpoint, "?")
	if !ok {
		return endpoint
	}
	kept := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		return pair == "" || err == nil && params.Has(name)
	})
	if len(kept) == 0 {
		return base
	}
	return base + "?" + strings.Join(kept, "&")
}

func (l *Launch) values() *launchState {
	if l == nil || l.secret == nil {
		return &launchState{}
	}
	return l.secret()
}

// URL returns the URL to redirect the browser to. It is empty after
// [RestoreLaunch].
func (l *Launch) URL() string {
	s := l.values()
	if s.endpoint == "" {
		return ""
	}
	separator := "?"
	if strings.Contains(s.endpoint, "?") {
		separator = "&"
	}
	return s.endpoint + separator + s.params.Encode()
}

// Endpoint returns the URL to post [Launch.Form] to, instead of a redirect to
// [Launch.URL], where the server has the capability authorize-post. It is empty
// after [RestoreLaunch].
func (l *Launch) Endpoint() string { return l.values().endpoint }

// Form returns a copy of the parameters to post to [Launch.Endpoint].
func (l *Launch) Form() url.Values { return cloneValues(l.values().params) }

// State returns the state, under which a callback may find its Launch again. By
// itself it does not show that the callback came from the same browser.
func (l *Launch) State() string { return l.values().state }

// submitScript is Go text without user input: its hash is what the page's
// Content-Security-Policy admits. A field named submit can't get in its way.
const submitScript = "HTMLFormElement.prototype.submit.call(document.forms[0])"

// WriteForm answers with a page that posts [Launch.Form] to [Launch.Endpoint]: by
// itself, or where scripts are off by a button. It may be shown in a frame, as
// EHRs do.
func (l *Launch) WriteForm(w http.ResponseWriter) error {
	s := l.values()
	if s.endpoint == "" {
		return errors.New("smartauth: write launch form: the launch has no endpoint")
	}
	var page strings.Builder
	fmt.Fprintf(&page, "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>Log in</title></head>\n<body><form method=\"post\" action=\"%s\">\n", html.EscapeString(s.endpoint))
	for _, name := range slices.Sorted(maps.Keys(s.params)) {
		for _, value := range s.params[name] {
			fmt.Fprintf(&page, "<input type=\"hidden\" name=\"%s\" value=\"%s\">\n", html.EscapeString(name), html.EscapeString(value))
		}
	}
	page.WriteString("<noscript><button>Log in</button></noscript>\n</form><script>" + submitScript + "</script></body></html>\n")

	sum := sha256.Sum256([]byte(submitScript))
	h := w.Header()
	// No form-action: browsers hold the redirects after the post to it as well.
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "strict-origin") // the page's own URL may hold the launch value
	h.Set("Cache-Control", "no-store")
	_, err := io.WriteString(w, page.String())
	return err
}

const launchVersion = 2

// savedLaunch is the JSON of [Launch.Save]. All members are always there.
type savedLaunch struct {
	Version     int       `json:"version"`
	Server      string    `json:"server"`
	ClientID    string    `json:"client_id"`
	State       string    `json:"state"`
	Verifier    string    `json:"code_verifier"`
	Nonce       string    `json:"nonce"`
	RedirectURL string    `json:"redirect_uri"`
	Scopes      []string  `json:"scopes"`
	Issuer      string    `json:"issuer"`
	IssRequired bool      `json:"iss_required"`
	TokenOrigin string    `json:"token_origin"`
	Started     time.Time `json:"started"`
}

var savedMembers = []string{
	"version", "server", "client_id", "state", "code_verifier", "nonce",
	"redirect_uri", "scopes", "issuer", "iss_required", "token_origin", "started",
}

// Save returns the launch as JSON, for [RestoreLaunch] on whichever process gets
// the callback. It holds the code verifier: keep it on the server, or encrypted
// in a cookie, and delete it before the callback is exchanged.
func (l *Launch) Save() []byte {
	s := l.values()
	// Strings, a bool and a time of this age always marshal.
	saved, _ := json.Marshal(savedLaunch{
		Version: launchVersion, Server: s.server, ClientID: s.clientID,
		State: s.state, Verifier: s.verifier, Nonce: s.nonce,
		RedirectURL: s.redirectURL, Scopes: s.scopes,
		Issuer: s.issuer, IssRequired: s.issRequired, TokenOrigin: s.tokenOrigin, Started: s.started.UTC().Round(0),
	})
	return saved
}

// RestoreLaunch reads what [Launch.Save] returned. What is anything else, or cut
// short or added to, matches [ErrState]; the error holds nothing of it.
func RestoreLaunch(saved []byte) (*Launch, error) {
	v, ok := parseSaved(saved)
	if !ok {
		return nil, fmt.Errorf("smartauth: restore launch: not a launch that this version saved: %w", ErrState)
	}
	s := &launchState{
		server: v.Server, clientID: v.ClientID, state: v.State, verifier: v.Verifier, nonce: v.Nonce,
		redirectURL: v.RedirectURL, scopes: v.Scopes, issuer: v.Issuer, issRequired: v.IssRequired,
		tokenOrigin: v.TokenOrigin, started: v.Started,
	}
	return &Launch{secret: func() *launchState { return s }}, nil
}

func parseSaved(saved []byte) (v savedLaunch, ok bool) {
	o, err := strictjson.Object(saved)
	if err != nil || o.BOM || len(o.Duplicates) > 0 || len(o.Names) != len(savedMembers) {
		return v, false
	}
	for _, name := range savedMembers {
		if raw, ok := o.Raw(name); !ok || strictjson.Kind(raw) == "null" {
			return v, false
		}
	}
	if json.Unmarshal(o.Text(), &v) != nil || v.Version != launchVersion || v.Started.IsZero() {
		return v, false
	}
	openID := slices.Contains(v.Scopes, scopeOpenID)
	random := func(s string) bool { return len(s) == randomLength && validVerifier(s) }
	return v, random(v.State) && random(v.Verifier) && (random(v.Nonce) && openID || v.Nonce == "" && !openID) &&
		v.Server != "" && v.ClientID != "" && v.RedirectURL != "" && v.TokenOrigin != "" &&
		!slices.ContainsFunc(v.Scopes, func(s string) bool { return !isScopeToken(s) })
}

// Format implements [fmt.Formatter]: [redacted], whatever the verb.
func (l Launch) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (l Launch) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
// [Launch.Save] is how a Launch is kept.
func (l Launch) MarshalText() ([]byte, error) { return []byte(redacted), nil }
