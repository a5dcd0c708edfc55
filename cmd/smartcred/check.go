package main

import (
	"cmp"
	"maps"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// need says what a command can't do without.
type need uint

const (
	needServer   need = 1 << iota // base_url
	needEndpoint                  // token_endpoint, or base_url to discover it
	needClient                    // client_id
	needScopes
	needSigner
	needMethod    // something to authenticate with
	needAssertion // a signer to authenticate with
	needState     // state_file
	needNewKey    // a signer whose keys this program makes
	needActivate  // the same, to move a key on
	needRevoke    // a secret or signer, to take a part of it out of use
)

// check returns what is wrong with values that are well-formed each on its own.
func (s *settings) check(needs need) []error {
	var problems []error
	bad := func(option, problem string) {
		problems = append(problems, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	missing := func(when need, value, option, problem string) {
		if needs&when != 0 && value == "" {
			bad(option, problem)
		}
	}
	missing(needServer, s.baseURL, "base_url", "is missing: name the server's FHIR base URL")
	missing(needEndpoint, s.baseURL+s.tokenEndpoint, "base_url", "is missing: name the server's FHIR base URL, or state token_endpoint")
	missing(needClient, s.clientID, "client_id", "is missing: it is the name the server registered this client under")
	missing(needSigner|needAssertion|needNewKey|needActivate, s.signer, "signer", "is missing: name where the private key is kept, file:key.pem for example")
	missing(needState, s.stateFile, "state_file", "is missing: without one nothing is kept between runs; a service forgets by Reset, or when it is started again")
	if needs&needScopes != 0 && len(s.scopes) == 0 {
		bad("scopes", "is missing: SMART servers want to know what for, system/*.rs for example")
	}
	if needs&(needMethod|needRevoke) != 0 {
		s.checkMethod(bad)
	}
	if needs&needAssertion != 0 && s.signer != "" && s.method() != provider.MethodPrivateKeyJWT {
		bad("auth_method", "is "+string(s.method())+", which sends no assertion")
	}
	if s.audience == provider.AudienceIssuer && s.issuer == "" {
		bad("audience", "is issuer, and issuer is not set")
	}
	if option, advice := s.elsewhere(needs); advice != "" {
		bad(option, advice)
	}
	problems = append(problems, s.checkValues()...)
	s.checkPlugins(bad)
	return problems
}

// method is how the client authenticates; empty if nothing says.
func (s *settings) method() provider.Method {
	switch {
	case s.authMethod != "":
		return s.authMethod
	case s.signer != "":
		return provider.MethodPrivateKeyJWT
	case len(s.secret) > 0:
		return provider.MethodClientSecretBasic
	default:
		return ""
	}
}

func (s *settings) checkMethod(bad func(option, problem string)) {
	switch s.method() {
	case "":
		bad("auth_method", "there is neither a signer nor a secret: set one, or auth_method none for a public client")
	case provider.MethodPrivateKeyJWT:
		if s.signer == "" {
			bad("signer", "is missing, which auth_method private_key_jwt needs")
		}
	case provider.MethodClientSecretBasic, provider.MethodClientSecretPost:
		if len(s.secret) == 0 {
			bad("secret", "is missing, which auth_method "+string(s.method())+" needs")
		}
	}
}

// checkValues asks the packages that will use the values, with stand-ins for
// what is missing, so that they are checked whatever the command.
func (s *settings) checkValues() []error {
	var problems []error
	cfg := s.clientConfig()
	cfg.BaseURL = cmp.Or(cfg.BaseURL, "https://localhost")
	cfg.ClientID = cmp.Or(cfg.ClientID, "client")
	cfg.Provider = provider.Public{}
	if c, err := smartauth.NewClient(cfg); err != nil {
		problems = append(problems, err)
	} else {
		_ = c.Close()
	}
	assertion := signer.Assertion{ClientID: "client", Audience: "https://localhost", JKU: s.jwksURL, Lifetime: s.assertionLifetime}
	if err := assertion.Check(); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// checkPlugins looks at all programs that are allowed, those too that nothing
// names yet.
func (s *settings) checkPlugins(bad func(option, problem string)) {
	for _, name := range slices.Sorted(maps.Keys(s.plugins)) {
		p := s.plugins[name]
		switch {
		case !pluginName.MatchString(name):
			bad("plugins."+name, "is no name of a plugin: it has letters, digits, hyphens, underscores and dots, at most 64, and begins with no hyphen or dot")
		case p.path != "" && !filepath.IsAbs(p.path): // that it is missing is said
			bad("plugins."+name+".path", "is not absolute: write the whole path of the program")
		}
	}
}

var pluginName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
