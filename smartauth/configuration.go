package smartauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/smartcred/smartcred/internal/strictjson"
)

// A Configuration is a server's SMART configuration: the document at
// .well-known/smart-configuration, SMART App Launch 2.2 "FHIR Authorization
// Endpoint and Capabilities Discovery". Members that are absent, or of another
// type than they should be, are zero; [Configuration.Violations] tells which.
//
// A Configuration that is shared must not be modified.
type Configuration struct {
	Issuer                string `json:"issuer,omitempty"`   // with sso-openid-connect
	JWKSURI               string `json:"jwks_uri,omitempty"` // the server's keys, for id_tokens
	AuthorizationEndpoint string `json:"authorization_endpoint,omitempty"`
	TokenEndpoint         string `json:"token_endpoint,omitempty"`
	RegistrationEndpoint  string `json:"registration_endpoint,omitempty"` // RFC 7591
	ManagementEndpoint    string `json:"management_endpoint,omitempty"`   // where a user sees and revokes access
	IntrospectionEndpoint string `json:"introspection_endpoint,omitempty"`
	RevocationEndpoint    string `json:"revocation_endpoint,omitempty"`
	AppStateEndpoint      string `json:"smart_app_state_endpoint,omitempty"` // deprecated: see AssociatedEndpoints
	UserAccessBrandBundle string `json:"user_access_brand_bundle,omitempty"`

	TokenEndpointAuthMethods           []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	TokenEndpointAuthSigningAlgorithms []string `json:"token_endpoint_auth_signing_alg_values_supported,omitempty"`
	GrantTypes                         []string `json:"grant_types_supported,omitempty"`
	Scopes                             []string `json:"scopes_supported,omitempty"` // not exhaustive
	ResponseTypes                      []string `json:"response_types_supported,omitempty"`
	CodeChallengeMethods               []string `json:"code_challenge_methods_supported,omitempty"`
	Capabilities                       []string `json:"capabilities,omitempty"`

	AssociatedEndpoints       []AssociatedEndpoint `json:"associated_endpoints,omitempty"`
	UserAccessBrandIdentifier *Identifier          `json:"user_access_brand_identifier,omitempty"`
	// AuthorizationResponseIss says that authorization answers carry iss (RFC 9207).
	AuthorizationResponseIss bool `json:"authorization_response_iss_parameter_supported,omitempty"`

	// Extra are the members that are none of the above, as they were sent.
	// Member names are case-sensitive: Token_Endpoint is one of these.
	Extra map[string]json.RawMessage `json:"-"`

	document   []byte
	violations []Violation // what only the document shows; the rest is computed
}

// An AssociatedEndpoint is another FHIR server that takes the same tokens (experimental).
type AssociatedEndpoint struct {
	URL          string   `json:"url"`
	Capabilities []string `json:"capabilities,omitempty"`
}

// An Identifier is a FHIR Identifier.
type Identifier struct {
	System string `json:"system,omitempty"`
	Value  string `json:"value,omitempty"`
	// Resource is the whole object as it was sent.
	Resource json.RawMessage `json:"-"`
}

// ParseConfiguration reads a SMART configuration that was found at the FHIR base
// URL. It fails only if the document is not one JSON object in UTF-8 nested 100
// deep at most, or if baseURL is not an absolute URL; whatever else is wrong is
// listed by [Configuration.Violations]. Errors never hold a part of the document.
//
// Relative URLs are resolved against the base URL with a slash appended to its
// path, so that "auth/token" lies below the FHIR server whether or not its URL is
// written with one. A member that appears twice has its last value.
func ParseConfiguration(baseURL string, document []byte) (*Configuration, error) {
	base, err := url.Parse(baseURL)
	if err != nil || !base.IsAbs() || base.Host == "" {
		// url.Parse's error prints the URL, userinfo included.
		return nil, errors.New("smartauth: parse SMART configuration: FHIR base URL is not an absolute URL")
	}
	o, err := strictjson.Object(bytes.Clone(document))
	if err != nil {
		return nil, fmt.Errorf("smartauth: parse SMART configuration: %w", err)
	}
	base.User, base.RawQuery, base.Fragment = nil, "", ""
	if !strings.HasSuffix(base.Path, "/") {
		base = base.JoinPath("/")
	}
	r := configurationReader{Obj: o, base: base}
	return r.read(), nil
}

// A configurationReader takes known members out of a document and notes what is
// wrong with them.
type configurationReader struct {
	*strictjson.Obj
	base       *url.URL
	violations []Violation
}

func (r *configurationReader) read() *Configuration {
	c := &Configuration{document: r.Text()}
	for _, f := range c.urlFields() {
		*f.value = r.url(f.name)
	}
	c.Issuer = r.string("issuer")
	if c.Issuer != "" && !isAbsolute(c.Issuer) {
		r.violate("issuer", RuleNotAbsoluteURL, levelShall, "an identifier: left as it is")
	}
	for _, f := range c.listFields() {
		*f.value = r.strings(f.name)
	}
	c.AuthorizationResponseIss = r.bool("authorization_response_iss_parameter_supported")
	c.AssociatedEndpoints = r.associatedEndpoints()
	c.UserAccessBrandIdentifier = r.identifier()
	for _, name := range r.Names {
		if raw, _ := r.Raw(name); !slices.Contains(configurationMembers, name) {
			if c.Extra == nil {
				c.Extra = map[string]json.RawMessage{}
			}
			c.Extra[name] = raw
		}
	}
	r.document()
	c.violations = r.violations
	return c
}

// document notes what is wrong with the document as a whole.
func (r *configurationReader) document() {
	if r.BOM {
		r.violate("", RuleByteOrderMark, levelBOM, "")
	}
	unknown := false
	for _, name := range r.Duplicates {
		if slices.Contains(configurationMembers, name) {
			r.violate(name, RuleDuplicateMember, levelDuplicate, "the last one counts")
		} else {
			unknown = true
		}
	}
	if unknown {
		r.violate("", RuleDuplicateMember, levelDuplicate, "members unknown here; the last one counts")
	}
}

type configurationField[T any] struct {
	name  string
	value *T
}

// urlFields are the members whose value is a URL to be resolved.
func (c *Configuration) urlFields() []configurationField[string] {
	return []configurationField[string]{
		{"authorization_endpoint", &c.AuthorizationEndpoint},
		{"token_endpoint", &c.TokenEndpoint},
		{"jwks_uri", &c.JWKSURI},
		{"registration_endpoint", &c.RegistrationEndpoint},
		{"management_endpoint", &c.ManagementEndpoint},
		{"introspection_endpoint", &c.IntrospectionEndpoint},
		{"revocation_endpoint", &c.RevocationEndpoint},
		{"smart_app_state_endpoint", &c.AppStateEndpoint},
		{"user_access_brand_bundle", &c.UserAccessBrandBundle},
	}
}

func (c *Configuration) listFields() []configurationField[[]string] {
	return []configurationField[[]string]{
		{"grant_types_supported", &c.GrantTypes},
		{"capabilities", &c.Capabilities},
		{"code_challenge_methods_supported", &c.CodeChallengeMethods},
		{"token_endpoint_auth_methods_supported", &c.TokenEndpointAuthMethods},
		{"token_endpoint_auth_signing_alg_values_supported", &c.TokenEndpointAuthSigningAlgorithms},
		{"scopes_supported", &c.Scopes},
		{"response_types_supported", &c.ResponseTypes},
	}
}

var configurationMembers = func() []string {
	names := []string{
		"issuer", "associated_endpoints", "user_access_brand_identifier",
		"authorization_response_iss_parameter_supported",
	}
	var c Configuration
	for _, f := range c.urlFields() {
		names = append(names, f.name)
	}
	for _, f := range c.listFields() {
		names = append(names, f.name)
	}
	return names
}()

func (r *configurationReader) violate(field string, rule Rule, level, note string) {
	r.violations = append(r.violations, Violation{Field: field, Rule: rule, Level: level, Note: note})
}

// usable notes a member that is there with another type than wanted.
func (r *configurationReader) usable(name string, state strictjson.State, want string) bool {
	if state == strictjson.Null || state == strictjson.WrongType {
		raw, _ := r.Raw(name)
		level := levelOptional
		if slices.Contains(alwaysRequired, name) {
			level = levelShall
		}
		r.violate(name, RuleWrongType, level, strictjson.Kind(raw)+" in place of "+want+"; read as absent")
	}
	return state == strictjson.Present
}

func (r *configurationReader) string(name string) string {
	value, state := r.String(name)
	if r.usable(name, state, "a string") && value == "" && !slices.Contains(alwaysRequired, name) {
		r.violate(name, RuleMissingValue, levelOptional, "empty; read as absent")
	}
	return value
}

func (r *configurationReader) strings(name string) []string {
	values, state := r.Strings(name)
	r.usable(name, state, "an array of strings")
	return values
}

func (r *configurationReader) bool(name string) bool {
	value, state := r.Bool(name)
	r.usable(name, state, "a boolean")
	return value
}

func (r *configurationReader) url(name string) string {
	value := r.string(name)
	if value == "" {
		return ""
	}
	return r.resolve(name, value)
}

func (r *configurationReader) resolve(name, value string) string {
	if isAbsolute(value) {
		return value
	}
	ref, err := url.Parse(value)
	if err != nil || ref.IsAbs() {
		r.violate(name, RuleNotAbsoluteURL, levelShall, "no URL of a server; read as absent")
		return ""
	}
	r.violate(name, RuleNotAbsoluteURL, levelShall, "resolved against the FHIR base URL")
	return r.base.ResolveReference(ref).String()
}

func (r *configurationReader) associatedEndpoints() []AssociatedEndpoint {
	const name = "associated_endpoints"
	elements, state := r.Array(name)
	if !r.usable(name, state, "an array of objects") {
		return nil
	}
	var out []AssociatedEndpoint
	for _, raw := range elements {
		o, err := strictjson.Object(raw)
		if err != nil {
			r.violate(name, RuleWrongType, levelOptional, strictjson.Kind(raw)+" in place of an object; passed over")
			continue
		}
		value, state := o.String("url")
		if state != strictjson.Present || value == "" {
			r.violate(name, RuleMissingValue, levelOptional, "an entry without url; passed over")
			continue
		}
		capabilities, state := o.Strings("capabilities")
		if state != strictjson.Present {
			r.violate(name, RuleMissingValue, levelOptional, "an entry without capabilities")
		}
		if value = r.resolve(name, value); value != "" {
			out = append(out, AssociatedEndpoint{URL: value, Capabilities: capabilities})
		}
	}
	return out
}

func (r *configurationReader) identifier() *Identifier {
	const name = "user_access_brand_identifier"
	raw, ok := r.Raw(name)
	if !ok {
		return nil
	}
	o, err := strictjson.Object(raw)
	if err != nil {
		r.violate(name, RuleWrongType, levelOptional, strictjson.Kind(raw)+" in place of a FHIR Identifier; read as absent")
		return nil
	}
	out := &Identifier{Resource: raw}
	out.System, _ = o.String("system")
	if out.Value, _ = o.String("value"); out.Value == "" {
		r.violate(name, RuleMissingValue, levelShall, "value")
	}
	return out
}

// isAbsolute reports whether s is a URL with a scheme and a host.
func isAbsolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && u.Host != ""
}

// Raw returns a copy of the document as the server sent it, without a byte
// order mark; nil if this Configuration was not parsed.
func (c *Configuration) Raw() []byte { return bytes.Clone(c.document) }

// MarshalJSON gives the server's document back. For a Configuration that was not
// parsed it writes the fields and Extra.
func (c *Configuration) MarshalJSON() ([]byte, error) {
	if c.document != nil {
		return c.Raw(), nil
	}
	type fields Configuration
	known, err := json.Marshal((*fields)(c))
	if err != nil || len(c.Extra) == 0 {
		return known, err
	}
	all := map[string]json.RawMessage{}
	for name, raw := range c.Extra {
		all[name] = raw
	}
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}
