package smartauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// Config is what a [Client] is made of. BaseURL, ClientID and Provider are
// required; Scopes are for every flow but refresh. The zero value of everything
// else works.
type Config struct {
	// BaseURL is the server's FHIR base URL. It is also how the server is named
	// in events and errors.
	BaseURL string
	// ClientID is the client_id registered at the server.
	ClientID string
	// Scopes are what to ask for, where a call does not say otherwise.
	Scopes []string
	// Provider proves the client's identity. One provider may serve any number
	// of clients; the Client does not close it.
	Provider provider.Provider

	// TokenEndpoint and AuthorizationEndpoint, where stated, are used instead of
	// what discovery says. Flows for which all endpoints are stated make no
	// discovery request.
	TokenEndpoint, AuthorizationEndpoint string
	// Issuer is the authorization server's issuer, where it is known by
	// configuration: the only one that may become an assertion's audience, and
	// the one that id tokens and callbacks are held to.
	Issuer string
	// AllowedAuthHosts are the hosts (with a port if it is not 443) that
	// discovery may name endpoints on. Empty: the token endpoint's origin first
	// discovered is pinned.
	AllowedAuthHosts []string

	// RedirectURL is where the authorization server sends the browser back to.
	RedirectURL string
	// LaunchTimeout is how long a pending launch may be completed; 0: 5 minutes.
	LaunchTimeout time.Duration
	// IDTokenAlgorithms are the algorithms id tokens may be signed with; empty:
	// RS256. HS* and none are refused.
	IDTokenAlgorithms []string

	// TokenParams are added to every token request. Parameters that OAuth or
	// SMART define are refused.
	TokenParams url.Values
	// PreTokenRequest, if set, is asked before each client_credentials request.
	// A token that it returns is used and the request is not made; nil, nil goes
	// on with the request.
	PreTokenRequest func(ctx context.Context, req TokenRequest) (*Token, error)

	// FHIRPrefixes are URLs besides BaseURL that the token may be sent to, with
	// all paths below them: bulk data files, for example.
	FHIRPrefixes []string

	// HTTPClient is copied and used for every request; nil: a client with
	// sensible time-outs. Its Jar and CheckRedirect are not used.
	HTTPClient *http.Client
	// Timeout bounds a flight as a whole (discovery, look-ups, signature,
	// request); 0: 30 s.
	Timeout time.Duration
	// DiscoveryTTL is how long a discovery document serves before it is asked
	// for again; 0: 1 hour. While the server can't be asked the last one serves on.
	DiscoveryTTL time.Duration
	// UserAgent is sent with every request; empty: "smartcred".
	UserAgent string
	// AllowInsecureLoopback accepts http, on loopback addresses only.
	AllowInsecureLoopback bool
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// A TokenRequest describes a token request to [Config.PreTokenRequest].
type TokenRequest struct {
	ClientID, Server string
	Scopes           []string
	Params           url.Values
}

const (
	defaultTimeout       = 30 * time.Second
	defaultLaunchTimeout = 5 * time.Minute
	defaultDiscoveryTTL  = time.Hour
	defaultUserAgent     = "smartcred"
)

// reservedParams can't be overridden by additional token request parameters.
var reservedParams = []string{
	"grant_type", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type",
	"code", "code_verifier", "redirect_uri", "refresh_token", "username", "password", "assertion",
}

// complete checks cfg, says all that is wrong with it at once, and returns a
// copy with the defaults filled in.
func (cfg Config) complete() (*Config, error) {
	var problems []error
	bad := func(option, problem string) {
		problems = append(problems, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	endpoint := func(option, raw string, required bool) {
		if raw == "" {
			if required {
				bad(option, "is missing")
			}
			return
		}
		if err := checkURL(raw, cfg.AllowInsecureLoopback); err != nil {
			bad(option, err.Error())
		}
	}
	endpoint("base_url", cfg.BaseURL, true)
	endpoint("token_endpoint", cfg.TokenEndpoint, false)
	endpoint("authorization_endpoint", cfg.AuthorizationEndpoint, false)
	endpoint("issuer", cfg.Issuer, false)
	for _, prefix := range cfg.FHIRPrefixes {
		endpoint("fhir_prefixes", prefix, true)
	}
	if u, err := url.Parse(cfg.BaseURL); err == nil && (u.RawQuery != "" || u.Fragment != "") {
		bad("base_url", "has a query or a fragment; give the FHIR base URL alone")
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if cfg.ClientID == "" {
		bad("client_id", "is missing")
	}
	if cfg.Provider == nil {
		bad("provider", "is missing; a public client uses provider.Public")
	}
	if cfg.RedirectURL != "" {
		if u, err := url.Parse(cfg.RedirectURL); err != nil || !u.IsAbs() || u.Fragment != "" {
			bad("redirect_url", "is no absolute URL without a fragment")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.TokenParams)) {
		if slices.Contains(reservedParams, name) {
			bad("token_params", fmt.Sprintf("%s is reserved: smartcred sets it itself", name))
		}
	}
	for _, scope := range cfg.Scopes {
		if !isScopeToken(scope) {
			bad("scopes", "has an entry that is empty or has characters RFC 6749 section 3.3 does not allow; give one scope an entry")
			break
		}
	}
	for _, alg := range cfg.IDTokenAlgorithms {
		if !slices.Contains(idTokenAlgorithms, alg) {
			bad("id_token_algorithms", fmt.Sprintf("%q is not one of %s", alg, strings.Join(idTokenAlgorithms, ", ")))
		}
	}
	if err := checkTransport(cfg.HTTPClient); err != nil {
		bad("http_client", err.Error())
	}
	for option, d := range map[string]time.Duration{"timeout": cfg.Timeout, "launch_timeout": cfg.LaunchTimeout, "discovery_ttl": cfg.DiscoveryTTL} {
		if d < 0 {
			bad(option, "is negative")
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("smartauth: new client: %w", errors.Join(problems...))
	}
	cfg.Scopes = slices.Clone(cfg.Scopes)
	cfg.AllowedAuthHosts = slices.Clone(cfg.AllowedAuthHosts)
	cfg.FHIRPrefixes = slices.Clone(cfg.FHIRPrefixes)
	cfg.TokenParams = cloneValues(cfg.TokenParams)
	if len(cfg.IDTokenAlgorithms) == 0 {
		cfg.IDTokenAlgorithms = []string{string(signer.RS256)}
	}
	setDefault(&cfg.Timeout, defaultTimeout)
	setDefault(&cfg.LaunchTimeout, defaultLaunchTimeout)
	setDefault(&cfg.DiscoveryTTL, defaultDiscoveryTTL)
	setDefault(&cfg.UserAgent, defaultUserAgent)
	return &cfg, nil
}

func setDefault[T comparable](value *T, def T) {
	var zero T
	if *value == zero {
		*value = def
	}
}

func cloneValues(v url.Values) url.Values {
	out := make(url.Values, len(v))
	for name, values := range v {
		out[name] = slices.Clone(values)
	}
	return out
}
