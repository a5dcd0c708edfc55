package smartauth

import (
	"net/url"
	"slices"
	"strings"
)

// A Violation is something that a server's document or answer should not have,
// or lacks. Violations diagnose: nothing is refused because of one.
type Violation struct {
	// Field is the JSON member concerned.
	Field string `json:"field"`
	// Rule is what it breaks.
	Rule Rule `json:"rule"`
	// Level says how binding the rule is: SHALL, SHOULD NOT, or in words.
	Level string `json:"level"`
	// Note says more, for people; it may be empty. It never holds a value that
	// the server sent.
	Note string `json:"note,omitempty"`
}

// String returns the violation in one line.
func (v Violation) String() string {
	s := v.Field + ": " + string(v.Rule) + " (" + v.Level + ")"
	if v.Note != "" {
		s += ": " + v.Note
	}
	return s
}

// A Rule names what a [Violation] breaks. The names are stable.
type Rule string

// The rules.
const (
	RuleMissingRequired       Rule = "missing_required"       // a required member is not there
	RuleMissingConditional    Rule = "missing_conditional"    // required because of another member
	RuleUnexpectedConditional Rule = "unexpected_conditional" // there although its condition does not hold
	RuleNotAbsoluteURL        Rule = "not_absolute_url"       // a relative URL, or none at all
	RuleInsecureURL           Rule = "insecure_url"           // a URL without TLS
	RuleForbiddenValue        Rule = "forbidden_value"        // a value that must not be there
	RuleMissingValue          Rule = "missing_value"          // a value that must be there is not, or it is empty
	RuleWrongType             Rule = "wrong_type"             // another JSON type; read as absent where no meaning is certain
	RuleDuplicateMember       Rule = "duplicate_member"       // a member appears more than once
	RuleByteOrderMark         Rule = "byte_order_mark"        // RFC 8259 section 8.1
)

// Levels of violations that are not the specification's own words.
const (
	levelShall     = "SHALL"
	levelShallNot  = "SHALL NOT"
	levelShouldNot = "SHOULD NOT"
	levelOptional  = "optional field"
	levelDuplicate = "RFC 8259 4 SHOULD"
	levelBOM       = "RFC 8259 8.1 MUST NOT"
)

// A Profile is a kind of client, where SMART App Launch asks different things of each.
type Profile uint8

// The profiles.
const (
	ProfileAppLaunch       Profile = iota // authorization code, EHR or standalone launch
	ProfileBackendServices                // client_credentials
)

// alwaysRequired are the members that every SMART configuration must have.
var alwaysRequired = []string{"token_endpoint", "grant_types_supported", "capabilities", "code_challenge_methods_supported"}

// Violations returns what the document should not have, or lacks (SMART App
// Launch 2.2 "Metadata"); empty if nothing.
func (c *Configuration) Violations() []Violation {
	check := configurationCheck{Configuration: c, found: slices.Clone(c.violations)}
	check.required()
	check.conditional()
	check.codeChallenge()
	check.urls()
	return check.found
}

type configurationCheck struct {
	*Configuration
	found []Violation
}

func (c *configurationCheck) add(field string, rule Rule, level, note string) {
	c.found = append(c.found, Violation{Field: field, Rule: rule, Level: level, Note: note})
}

// missing adds a violation, unless what is there instead has one that says more.
func (c *configurationCheck) missing(field string, rule Rule, level string) {
	if !slices.ContainsFunc(c.violations, func(v Violation) bool {
		return v.Field == field && (v.Rule == RuleWrongType || v.Rule == RuleNotAbsoluteURL)
	}) {
		c.add(field, rule, level, "")
	}
}

func (c *configurationCheck) required() {
	if c.TokenEndpoint == "" {
		c.missing("token_endpoint", RuleMissingRequired, levelShall)
	}
	for _, f := range c.listFields() {
		if *f.value == nil && slices.Contains(alwaysRequired, f.name) {
			c.missing(f.name, RuleMissingRequired, levelShall)
		}
	}
}

func (c *configurationCheck) conditional() {
	launch := c.Supports(CapabilityLaunchEHR) || c.Supports(CapabilityLaunchStandalone)
	if launch && c.AuthorizationEndpoint == "" {
		c.missing("authorization_endpoint", RuleMissingConditional, "SHALL with launch-ehr or launch-standalone")
	}
	if !c.Supports(CapabilitySSOOpenIDConnect) {
		if c.Issuer != "" {
			c.add("issuer", RuleUnexpectedConditional, "required with sso-openid-connect, otherwise omitted", "")
		}
		return
	}
	if c.Issuer == "" {
		c.missing("issuer", RuleMissingConditional, "SHALL with sso-openid-connect")
	}
	if c.JWKSURI == "" {
		c.missing("jwks_uri", RuleMissingConditional, "SHALL with sso-openid-connect")
	}
}

func (c *configurationCheck) codeChallenge() {
	const field = "code_challenge_methods_supported"
	if c.CodeChallengeMethods != nil && !slices.Contains(c.CodeChallengeMethods, "S256") {
		c.add(field, RuleMissingValue, levelShall, "S256")
	}
	if slices.Contains(c.CodeChallengeMethods, "plain") {
		c.add(field, RuleForbiddenValue, levelShallNot, "plain")
	}
}

func (c *configurationCheck) urls() {
	check := func(field, value string) {
		if value != "" && !isHTTPS(value) {
			c.add(field, RuleInsecureURL, levelShall, "TLS 1.2 or later for every exchange")
		}
	}
	for _, f := range c.urlFields() {
		check(f.name, *f.value)
	}
	for _, e := range c.AssociatedEndpoints {
		check("associated_endpoints", e.URL)
	}
	if isAbsolute(c.Issuer) {
		check("issuer", c.Issuer)
	}
	for _, f := range c.urlFields() {
		u, err := url.Parse(*f.value)
		if err != nil {
			continue
		}
		if u.User != nil {
			c.add(f.name, RuleForbiddenValue, levelShallNot, "a user name or password, RFC 9110 section 4.2.4")
		}
		if strings.HasSuffix(f.name, "_endpoint") && strings.Contains(*f.value, "#") {
			c.add(f.name, RuleForbiddenValue, levelShallNot, "a fragment, RFC 6749 section 3")
		}
	}
}
