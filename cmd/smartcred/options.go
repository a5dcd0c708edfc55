package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/smartcred/smartcred/internal/securefile"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// An option is a key of the configuration file, and a flag.
type option struct {
	key   string
	usage string
	shape shape
	// fallback is the default, for the help text.
	fallback string
	// set takes a value from a flag or from a scalar or list of the file. Its
	// errors say what the value must be, and never repeat it: it may be a secret
	// in the wrong place.
	set func(s *settings, values []string) error
	// setMap takes a map of the file; such an option has no flag.
	setMap func(s *settings, value *yaml.Node) []error
}

// name is the option's name in the file.
func (o *option) name() string { return o.key }

// flag is the option's name on the command line.
func (o *option) flag() string { return strings.ReplaceAll(o.key, "_", "-") }

// A shape says how an option is written. It is also the placeholder in help.
type shape string

const (
	isText     shape = "text"
	isURL      shape = "url"
	isFile     shape = "file"
	isDuration shape = "duration"
	isBool     shape = "bool" // pflag knows this one
	isList     shape = "list"
	isURI      shape = "uri"
	isURIs     shape = "uris" // one or a list
	isMap      shape = "map"  // in the file only
)

// several reports whether the option takes more than one value.
func (s shape) several() bool { return s == isList || s == isURIs }

// options are all keys, in the order of the documentation.
var options = []option{
	{key: "base_url", shape: isURL, usage: "the server's FHIR base URL", set: text(func(s *settings) *string { return &s.baseURL })},
	{key: "token_endpoint", shape: isURL, usage: "stated instead of discovered", set: text(func(s *settings) *string { return &s.tokenEndpoint })},
	{key: "authorization_endpoint", shape: isURL, usage: "stated instead of discovered", set: text(func(s *settings) *string { return &s.authorizationEndpoint })},
	{key: "issuer", shape: isURL, usage: "the authorization server's issuer", set: text(func(s *settings) *string { return &s.issuer })},
	{key: "client_id", shape: isText, usage: "the client_id registered at the server", set: text(func(s *settings) *string { return &s.clientID })},
	{key: "scopes", shape: isList, usage: "what to ask for, such as system/*.rs", set: list(func(s *settings) *[]string { return &s.scopes })},

	{key: "secret", shape: isURIs, usage: "where the client secret is kept: env:NAME, file:PATH, …; of several the first is current", set: list(func(s *settings) *[]string { return &s.secret })},
	{key: "signer", shape: isURI, usage: "where the private key is kept: file:PATH, …", set: text(func(s *settings) *string { return &s.signer })},
	{key: "auth_method", shape: isText, usage: "none, client_secret_basic, client_secret_post or private_key_jwt (default: as signer or secret is set)",
		set: choice(func(s *settings) *provider.Method { return &s.authMethod }, "none", "client_secret_basic", "client_secret_post", "private_key_jwt")},
	{key: "secret_encoding", shape: isText, fallback: "rfc6749", usage: "how HTTP Basic encodes id and secret: rfc6749 or raw",
		set: choice(func(s *settings) *provider.SecretEncoding { return &s.secretEncoding }, "rfc6749", "raw")},
	{key: "key_id", shape: isText, usage: "the kid of a single key, as it was registered (default: its own, else its thumbprint)", set: text(func(s *settings) *string { return &s.keyID })},
	{key: "algorithm", shape: isText, usage: "what the key signs with (default: RS384 or ES384, as the key is)",
		set: choice(func(s *settings) *signer.Algorithm { return &s.algorithm }, "RS384", "ES384", "RS256", "RS512", "PS384", "ES256")},
	{key: "allowed_kids", shape: isList, usage: "keys with another kid are left out", set: list(func(s *settings) *[]string { return &s.allowedKIDs })},
	{key: "require_non_exportable", shape: isBool, usage: "leave out keys that could leave their backend", set: boolean(func(s *settings) *bool { return &s.requireNonExportable })},
	{key: "jwks_url", shape: isURL, usage: "where the server fetches our JWK Set; sent as jku", set: text(func(s *settings) *string { return &s.jwksURL })},
	{key: "send_jku", shape: isBool, fallback: "true", usage: "send jwks_url as jku", set: boolean(func(s *settings) *bool { return &s.sendJKU })},
	{key: "audience", shape: isText, fallback: "token_endpoint", usage: "aud of assertions: token_endpoint (the URL posted to), issuer (the configured one), or a literal", set: text(func(s *settings) *string { return &s.audience })},
	{key: "audience_scheme", shape: isText, usage: "http forces the scheme of aud, for servers behind a proxy",
		set: choice(func(s *settings) *string { return &s.audienceScheme }, "http", "https")},
	{key: "assertion_lifetime", shape: isDuration, fallback: "4m", usage: "from now to exp, at most 5m", set: duration(func(s *settings) *time.Duration { return &s.assertionLifetime }, positive)},
	{key: "publish_for", shape: isDuration, fallback: "24h", usage: "how long a new key is published before it signs", set: duration(func(s *settings) *time.Duration { return &s.publishFor }, positive)},
	{key: "overlap", shape: isDuration, fallback: "168h", usage: "how long a previous secret or key may still be used", set: duration(func(s *settings) *time.Duration { return &s.overlap }, notNegative)},
	{key: "previous", shape: isText, fallback: previousOnRefusal, usage: "when to use the previous secret or key: on_refusal or never",
		set: choice(func(s *settings) *string { return &s.previous }, previousOnRefusal, previousNever)},
	{key: "revoked", shape: isList, usage: "versions and kids that are never used or published", set: list(func(s *settings) *[]string { return &s.revoked })},
	{key: "also_refusal", shape: isList, usage: "what else counts as a refusal: invalid_grant, bare_401, server_error",
		set: list(func(s *settings) *[]string { return &s.alsoRefusal }, "invalid_grant", "bare_401", "server_error")},

	{key: "id_token_algorithms", shape: isList, fallback: "RS256", usage: "what id tokens may be signed with", set: list(func(s *settings) *[]string { return &s.idTokenAlgorithms })},
	{key: "redirect_url", shape: isURL, usage: "where the authorization server sends the browser back to", set: text(func(s *settings) *string { return &s.redirectURL })},
	{key: "token_params", shape: isMap, setMap: tokenParams},
	{key: "allowed_auth_hosts", shape: isList, usage: "hosts that discovery may name endpoints on (default: the origin first discovered)", set: list(func(s *settings) *[]string { return &s.allowedAuthHosts })},
	{key: "plugins", shape: isMap, setMap: plugins},
	{key: "allow_path_plugins", shape: isBool, usage: "let plugin: URIs name programs on PATH, as smartcred-plugin-NAME", set: boolean(func(s *settings) *bool { return &s.allowPathPlugins })},

	{key: "ca_file", shape: isFile, usage: "PEM file of certificate authorities to trust besides the system's", set: path("ca_file", func(s *settings) *string { return &s.caFile })},
	{key: "timeout", shape: isDuration, fallback: "30s", usage: "bounds the command as a whole", set: duration(func(s *settings) *time.Duration { return &s.timeout }, positive)},
	{key: "state_file", shape: isFile, usage: "where what was learned of credentials is kept between runs", set: path("state_file", func(s *settings) *string { return &s.stateFile })},
	{key: "allow_insecure_loopback", shape: isBool, usage: "allow http, on loopback only, for servers and backends", set: boolean(func(s *settings) *bool { return &s.allowInsecureLoopback })},
	{key: "insecure_backend_tls", shape: isBool, usage: "do not verify the certificates of backends", set: boolean(func(s *settings) *bool { return &s.insecureBackendTLS })},
	{key: "insecure_permissions", shape: isBool, usage: "accept secret and key files that others can read", set: boolean(func(s *settings) *bool { return &s.insecurePermissions })},
}

func text(field func(*settings) *string) func(*settings, []string) error {
	return func(s *settings, values []string) error {
		*field(s) = values[0]
		return nil
	}
}

// path resolves a relative path: no one after this needs to know where it came from.
func path(key string, field func(*settings) *string) func(*settings, []string) error {
	return func(s *settings, values []string) error {
		*field(s) = securefile.Resolve(s.dirs[key], values[0])
		return nil
	}
}

func choice[T ~string](field func(*settings) *T, known ...string) func(*settings, []string) error {
	return func(s *settings, values []string) error {
		if !slices.Contains(known, values[0]) {
			return fmt.Errorf("is not one of %s", strings.Join(known, ", "))
		}
		*field(s) = T(values[0])
		return nil
	}
}

func boolean(field func(*settings) *bool) func(*settings, []string) error {
	return func(s *settings, values []string) error {
		switch values[0] {
		case "true", "false":
			*field(s) = values[0] == "true"
			return nil
		}
		return fmt.Errorf("is neither true nor false")
	}
}

// list takes any entries, or only known ones.
func list(field func(*settings) *[]string, known ...string) func(*settings, []string) error {
	return func(s *settings, values []string) error {
		for _, v := range values {
			if v == "" {
				return fmt.Errorf("has an empty entry")
			}
			if len(known) > 0 && !slices.Contains(known, v) {
				return fmt.Errorf("has an entry that is not one of %s", strings.Join(known, ", "))
			}
		}
		*field(s) = slices.Clone(values)
		return nil
	}
}

const (
	positive    = time.Nanosecond // the least value
	notNegative = time.Duration(0)
)

func duration(field func(*settings) *time.Duration, least time.Duration) func(*settings, []string) error {
	return func(s *settings, values []string) error {
		d, err := parseDuration(values[0])
		switch {
		case err != nil:
			return err
		case d < least:
			return fmt.Errorf("is too short")
		}
		*field(s) = d
		return nil
	}
}

// parseDuration reads Go's durations, and whole days as 30d.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("is no duration: write 30s, 5m, 24h or 7d")
	}
	return d, nil
}
