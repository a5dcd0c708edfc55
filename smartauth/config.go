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
	// Scopes are what to ask for, where a call does not say otherwise;
	// [ScopeSystemRead] asks for whatever a backend service may read.
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
	// discovery may name endpoints on. Empty: the origins of the token and the
	// authorization endpoint first discovered are pinned.
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
	// A token that it returns (see [NewToken]) is used and the request is not
	// made; nil, nil goes on with the request.
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
	// DiscoveryTTL is how long a discovery document serves at most before it is
	// asked for again; 0: 1 hour. The server's Cache-Control can shorten it, to a
	// minute. While the server can't be asked the last one serves on.
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

// ScopeSystemRead is the scope of a backend service that reads and searches
// whatever it was registered for.
const ScopeSystemRead = "system/*.rs"

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
	for _, host := range cfg.AllowedAuthHosts {
		if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.Hostname() == "" {
			bad("allowed_auth_hosts", "has an entry that is no host or host:port")
			break
		}
	}
	if strings.ContainsFunc(cfg.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		bad("user_agent", "has characters that a header can't carry")
	}
	if cfg.RedirectURL != "" {
		u, err := url.Parse(cfg.RedirectURL)
		switch {
		case err != nil || !u.IsAbs() || u.Fragment != "" || u.User != nil:
			bad("redirect_url", "is no absolute URL without a fragment and a user name")
		case u.Scheme == "http" && !isLoopback(u.Hostname()):
			bad("redirect_url", "is http; only https is used, but for loopback addresses and schemes of an app's own")
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
