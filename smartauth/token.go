package smartauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/provider"
	"golang.org/x/oauth2"
)

const redacted = "[redacted]"

// A Token is a successful token answer (RFC 6749 section 5.1) with its SMART
// launch context. It prints as [redacted] under every verb of fmt, in JSON and
// in slog, also inside other structs' unexported fields: the values are held in
// a closure, because fmt calls no methods there.
//
// A Token is immutable and shared by pointer; its slices must not be modified.
// It is safe for concurrent use.
type Token struct {
	// Type is token_type as the server wrote it: "Bearer" in any case.
	Type string
	// Received is when the answer came.
	Received time.Time
	// Expiry is when the token ends: Received plus expires_in, or plus
	// [DefaultLifetime] where the server does not say. It is zero only in a
	// Token that no answer was read for.
	Expiry time.Time
	// Scopes are the granted scopes, in the server's order. They are the
	// requested ones where the answer has no scope (RFC 6749 section 5.1), and
	// none where it has an empty one.
	Scopes []string
	// Context is the launch context, SMART App Launch "Launch context data".
	Context LaunchContext

	lifetime   time.Duration
	stated     bool // expires_in was there and could be read
	violations []Violation
	identity   *Identity // of a validated id token
	credential credential
	secret     func() *tokenSecret
}

// credential names the credential that a token was got with.
type credential struct {
	identity       string // what the provider's Checker knows it by; empty: it is not checked
	method         provider.Method
	version, keyID string
}

type tokenSecret struct {
	header           string // the Authorization header's value
	refresh, idToken string
	answer           []byte
}

const bearer = "Bearer "

// A LaunchContext is what the server told about the launch. Members of another
// type than the specification's are left unset and listed by
// [Token.Violations]; [Token.Member] has them as they were sent.
type LaunchContext struct {
	Patient   string // id of a Patient resource at the FHIR server
	Encounter string // id of an Encounter resource
	// FHIRContext are further resources in context.
	FHIRContext []ContextReference
	// NeedPatientBanner says whether the app must show whose data it shows; nil
	// if the server does not say.
	NeedPatientBanner *bool
	Intent            string // what the user wants to do; unknown values mean the default view
	SmartStyleURL     string // where the EHR's style sheet is, as JSON
	Tenant            string // the organization, among those that share a server
	// AuthorizationDetails is the authorization_details array (RFC 9396) as it was sent.
	AuthorizationDetails json.RawMessage
}

// A ContextReference is one entry of fhirContext.
type ContextReference struct {
	Reference  string          // relative reference to a resource at the FHIR server
	Canonical  string          // canonical URL of a resource
	Identifier json.RawMessage // a FHIR Identifier object
	Type       string          // the resource type
	Role       string          // a URI; empty means launch
}

func (t *Token) values() *tokenSecret {
	if t == nil || t.secret == nil {
		return &tokenSecret{}
	}
	return t.secret()
}

// AccessToken returns the access token. Do not parse it: it is the server's own.
func (t *Token) AccessToken() string {
	header := t.values().header
	return header[min(len(bearer), len(header)):]
}

// RefreshToken returns the refresh token; empty if there is none.
func (t *Token) RefreshToken() string { return t.values().refresh }

// IDToken returns the id_token, not validated; empty if there is none.
func (t *Token) IDToken() string { return t.values().idToken }

// Answer returns a copy of the server's whole JSON answer, credentials included,
// for whoever must print or pass it on. It does not say when it came:
// [Token.Save] is how a token is kept.
func (t *Token) Answer() []byte { return bytes.Clone(t.values().answer) }

// Member returns a copy of one member of the answer as it was sent, under its
// exact name, for what this package does not know.
func (t *Token) Member(name string) (json.RawMessage, bool) {
	o, err := strictjson.Object(t.values().answer)
	if err != nil {
		return nil, false
	}
	raw, ok := o.Raw(name)
	return slices.Clone(raw), ok
}

// SetAuthHeader puts the token into the Authorization header of r (RFC 6750
// section 2.1). A nil or zero Token removes the header.
func (t *Token) SetAuthHeader(r *http.Request) {
	header := t.values().header
	if header == "" {
		r.Header.Del("Authorization")
		return
	}
	r.Header.Set("Authorization", header)
}

// ExpiresIn returns the lifetime that the server stated, and whether it did.
// It is never negative, and at most [MaxLifetime].
func (t *Token) ExpiresIn() (time.Duration, bool) { return t.lifetime, t.stated }

// MissingScopes returns those of the requested scopes that were not granted, as
// [MissingScopes] tells.
func (t *Token) MissingScopes(requested []string) []string {
	return MissingScopes(requested, t.Scopes)
}

// OAuth2 returns the token as golang.org/x/oauth2 has it, with the answer's
// members as its extras. Unlike a Token it prints its values.
func (t *Token) OAuth2() *oauth2.Token {
	s := t.values()
	out := &oauth2.Token{
		AccessToken: t.AccessToken(), TokenType: "Bearer",
		RefreshToken: s.refresh, Expiry: t.Expiry,
		ExpiresIn: int64(t.lifetime / time.Second),
	}
	var extra map[string]any
	if json.Unmarshal(s.answer, &extra) == nil {
		out = out.WithExtra(extra)
	}
	return out
}

// Format implements [fmt.Formatter]: the type and [redacted], whatever the verb.
func (t Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, bearer+redacted)
}

// LogValue implements [slog.LogValuer]: type, expiry and scopes.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("token", redacted), slog.String("type", t.Type),
		slog.Time("expiry", t.Expiry), slog.Any("scopes", t.Scopes))
}

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
// [Token.Save] is how a token is kept.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// launchContext takes the launch context out of an answer.
func (p *answerReader) launchContext() LaunchContext {
	c := LaunchContext{
		Patient: p.contextString("patient"), Encounter: p.contextString("encounter"),
		Intent: p.contextString("intent"), SmartStyleURL: p.contextString("smart_style_url"),
		Tenant: p.contextString("tenant"),
	}
	if banner, state := p.Bool("need_patient_banner"); state == strictjson.Present {
		c.NeedPatientBanner = &banner
	} else if state != strictjson.Absent {
		p.wrongType("need_patient_banner", "a boolean")
	}
	if _, state := p.Array("authorization_details"); state == strictjson.Present {
		c.AuthorizationDetails, _ = p.Raw("authorization_details")
	} else if state != strictjson.Absent {
		p.wrongType("authorization_details", "an array")
	}
	elements, state := p.Array("fhirContext")
	if state == strictjson.Null || state == strictjson.WrongType {
		p.wrongType("fhirContext", "an array")
	}
	for _, raw := range elements {
		if ref, ok := p.contextReference(raw); ok {
			c.FHIRContext = append(c.FHIRContext, ref)
		}
	}
	return c
}

func (p *answerReader) contextString(name string) string {
	value, state := p.String(name)
	switch {
	case state == strictjson.Null || state == strictjson.WrongType:
		p.wrongType(name, "a string")
	case state == strictjson.Present && value == "":
		p.violate(name, RuleMissingValue, levelShall, "empty")
	}
	return value
}

// contextReference reads an entry of fhirContext. Servers of version 1 send the
// reference alone.
func (p *answerReader) contextReference(raw json.RawMessage) (ContextReference, bool) {
	const name = "fhirContext"
	if value, state := strictjson.String(raw); state == strictjson.Present && value != "" {
		p.violate(name, RuleWrongType, levelShall, "an entry is a string; taken as a reference")
		return ContextReference{Reference: value}, true
	}
	o, err := strictjson.Object(raw)
	if err != nil {
		p.violate(name, RuleWrongType, levelShall, "an entry is no object; passed over")
		return ContextReference{}, false
	}
	text := func(member string) string {
		value, state := o.String(member)
		if state != strictjson.Absent && value == "" {
			p.violate(name, RuleWrongType, levelShall, member+": not a string, or empty")
		}
		return value
	}
	ref := ContextReference{
		Reference: text("reference"), Canonical: text("canonical"), Type: text("type"), Role: text("role"),
	}
	if identifier, ok := o.Raw("identifier"); ok && strictjson.Kind(identifier) == "object" {
		ref.Identifier = identifier
	} else if ok {
		p.violate(name, RuleWrongType, levelShall, "identifier: not an object")
	}
	if ref.Reference == "" && ref.Canonical == "" && ref.Identifier == nil {
		p.violate(name, RuleMissingValue, levelShall, "an entry without reference, canonical and identifier; passed over")
		return ContextReference{}, false
	}
	return ref, true
}
