package smartauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/smartcred/smartcred/internal/strictjson"
)

const (
	// DefaultLifetime is how long a token counts as valid where its answer has
	// no expires_in, or none that can be read.
	DefaultLifetime = 5 * time.Minute
	// MaxLifetime is the longest lifetime that is believed: a longer
	// expires_in counts as this.
	MaxLifetime = 10 * 365 * 24 * time.Hour
)

var errInvalidAnswer = errors.New("invalid answer")

// tokenMembers are the members that mean something here: one that appears twice
// has no certain meaning, and the answer is refused.
var tokenMembers = []string{
	"access_token", "token_type", "expires_in", "scope", "refresh_token", "id_token", "error",
	"patient", "encounter", "fhirContext", "need_patient_banner", "intent", "smart_style_url", "tenant",
	"authorization_details",
}

// ParseToken reads the answer to a token request (RFC 6749 section 5.1, SMART
// App Launch "Obtain access token"): the server's own, or one that
// [Token.Answer] returned. requested are the scopes that were asked for, received
// is when the answer came. It never fails for the sake of form where the meaning
// is certain; [Token.Violations] lists what it let pass:
//
//   - expires_in may be a number or a numeric string; a fraction is rounded down,
//     a negative number means already expired, more than [MaxLifetime] counts as
//     that, null or anything else as absent: then [DefaultLifetime].
//   - token_type may be absent or null, and then means Bearer; its case is free.
//     Every other type is refused (RFC 6749 section 7.1).
//   - scope may be an array of strings. Empty means none, absent means as requested,
//     anything else means none.
//   - A byte order mark, null members, and context members of the wrong type are
//     passed over.
//
// Refused are: an access_token that is absent, empty, or not of visible
// characters and spaces; an error member; a member used here that appears twice;
// what is not one JSON object in UTF-8 nested 100 deep at most.
// Errors never hold a value of the answer.
func ParseToken(answer []byte, requested []string, received time.Time) (*Token, error) {
	t, err := parseToken(answer, requested, received)
	if err != nil {
		return nil, fmt.Errorf("smartauth: parse token answer: %w", err)
	}
	return t, nil
}

func parseToken(answer []byte, requested []string, received time.Time) (*Token, error) {
	o, err := strictjson.Object(bytes.Clone(answer))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalidAnswer, err)
	}
	p := answerReader{Obj: o}
	t := &Token{Received: received.Round(0)} // wall clock: a machine that slept must see the expiry
	if err := p.refuse(); err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalidAnswer, err)
	}
	if t.Type, err = p.tokenType(); err != nil {
		return nil, fmt.Errorf("%w: %w", errInvalidAnswer, err)
	}
	access, state := o.String("access_token")
	if state != strictjson.Present || !isVSCHAR(access) {
		return nil, fmt.Errorf("%w: access_token: %s", errInvalidAnswer, p.problem("access_token"))
	}
	s := &tokenSecret{
		header: bearer + access, answer: o.Text(),
		refresh: p.credential("refresh_token"), idToken: p.credential("id_token"),
	}
	t.secret = func() *tokenSecret { return s }
	t.lifetime, t.stated = p.expiresIn()
	t.Expiry = t.Received.Add(DefaultLifetime)
	if t.stated {
		t.Expiry = t.Received.Add(t.lifetime)
	}
	t.Scopes = p.scopes(requested)
	t.Context = p.launchContext()
	t.violations = p.violations
	return t, nil
}

// An answerReader reads members and notes what is wrong with them.
type answerReader struct {
	*strictjson.Obj
	violations []Violation
}

func (p *answerReader) violate(field string, rule Rule, level, note string) {
	p.violations = append(p.violations, Violation{Field: field, Rule: rule, Level: level, Note: note})
}

func (p *answerReader) wrongType(field, want string) {
	raw, _ := p.Raw(field)
	p.violate(field, RuleWrongType, levelShall, strictjson.Kind(raw)+" in place of "+want)
}

// problem says in words what is wrong with a member that must be a string.
func (p *answerReader) problem(name string) string {
	raw, _ := p.Raw(name)
	switch kind := strictjson.Kind(raw); {
	case kind != "string":
		return kind
	case string(raw) == `""`:
		return "empty"
	}
	return "characters outside RFC 6749 appendix A"
}

func (p *answerReader) refuse() error {
	if p.BOM {
		p.violate("", RuleByteOrderMark, levelBOM, "")
	}
	for _, name := range p.Duplicates {
		if slices.Contains(tokenMembers, name) {
			return fmt.Errorf("%s: duplicate member", name)
		}
	}
	if len(p.Duplicates) > 0 {
		p.violate("", RuleDuplicateMember, levelDuplicate, "members unknown here; the last one counts")
	}
	if raw, ok := p.Raw("error"); ok && strictjson.Kind(raw) != "null" {
		return errors.New("has an error member")
	}
	return nil
}

func (p *answerReader) tokenType() (string, error) {
	kind, state := p.String("token_type")
	switch {
	case state == strictjson.Absent:
		p.violate("token_type", RuleMissingRequired, levelShall, "taken as Bearer")
		return "Bearer", nil
	case state == strictjson.Null:
		p.wrongType("token_type", "a string; taken as Bearer")
		return "Bearer", nil
	case state != strictjson.Present:
		return "", errors.New("token_type: not a string")
	case !strings.EqualFold(kind, "bearer"):
		return "", errors.New("token_type: not bearer")
	}
	return kind, nil
}

// credential returns a token other than the access token; empty if it is absent
// or can't be one.
func (p *answerReader) credential(name string) string {
	value, state := p.String(name)
	switch {
	case state == strictjson.Absent:
		return ""
	case state != strictjson.Present || !isVSCHAR(value):
		p.violate(name, RuleWrongType, levelShall, p.problem(name)+"; passed over")
		return ""
	}
	return value
}

// expiresIn returns the lifetime in whole seconds, between 0 and MaxLifetime, and
// whether there is one.
func (p *answerReader) expiresIn() (time.Duration, bool) {
	raw, _ := p.Raw("expires_in")
	text := string(raw)
	switch strictjson.Kind(raw) {
	case "absent":
		return 0, false
	case "string":
		p.wrongType("expires_in", "a number")
		text, _ = strictjson.String(raw)
		if !json.Valid([]byte(text)) || strictjson.Kind([]byte(strings.TrimSpace(text))) != "number" {
			return 0, false
		}
		text = strings.TrimSpace(text)
	case "number":
	default:
		p.wrongType("expires_in", "a number")
		return 0, false
	}
	// Beyond the range of float64 it is an infinity, which the limits below take in.
	seconds, _ := strconv.ParseFloat(text, 64)
	if seconds != math.Floor(seconds) {
		p.violate("expires_in", RuleForbiddenValue, levelShallNot, "not an integer; rounded down")
	}
	if seconds < 0 {
		p.violate("expires_in", RuleForbiddenValue, levelShallNot, "negative; already expired")
		return 0, true
	}
	if seconds >= MaxLifetime.Seconds() {
		return MaxLifetime, true
	}
	return time.Duration(seconds) * time.Second, true
}

func (p *answerReader) scopes(requested []string) []string {
	scope, state := p.String("scope")
	switch state {
	case strictjson.Absent:
		return slices.Clone(requested)
	case strictjson.Null:
		p.wrongType("scope", "a string; taken as absent")
		return slices.Clone(requested)
	case strictjson.Present:
		if scope == "" {
			p.violate("scope", RuleMissingValue, levelShall, "empty: no scope granted")
		}
		return strings.Fields(scope)
	}
	p.wrongType("scope", "a string")
	list, _ := p.Strings("scope")
	return strings.Fields(strings.Join(list, " "))
}

// Violations returns what the answer should not have, or lacks, for a client of
// the profile; empty if nothing. None of it makes the token unusable.
func (t *Token) Violations(profile Profile) []Violation {
	out := slices.Clone(t.violations)
	add := func(field string, rule Rule, level, note string) {
		out = append(out, Violation{Field: field, Rule: rule, Level: level, Note: note})
	}
	o, err := strictjson.Object(t.values().answer)
	if err != nil {
		return out
	}
	if _, ok := o.Raw("scope"); !ok {
		add("scope", RuleMissingRequired, levelShall, "taken as requested, RFC 6749 section 5.1")
	}
	_, stated := o.Raw("expires_in")
	_, refresh := o.Raw("refresh_token")
	_, idToken := o.Raw("id_token")
	switch profile {
	case ProfileBackendServices:
		if !stated {
			add("expires_in", RuleMissingRequired, levelShall, "taken as "+DefaultLifetime.String())
		}
		if t.lifetime > 300*time.Second {
			add("expires_in", RuleForbiddenValue, levelShouldNot, "more than 300 seconds")
		}
		if refresh {
			add("refresh_token", RuleForbiddenValue, levelShouldNot, "backend services get none")
		}
	case ProfileAppLaunch:
		if !idToken && slices.Contains(t.Scopes, "openid") {
			add("id_token", RuleMissingConditional, levelShall, "openid was granted")
		}
	}
	return out
}

// parseOAuthError reads the body of an OAuth error answer (RFC 6749 section 5.2).
// It reports false where the body has no usable error code. Description and URI
// are empty if absent or of another type. All three are the server's own text,
// to be redacted and escaped before anyone sees it.
func parseOAuthError(body []byte) (code, description, uri string, ok bool) {
	o, err := strictjson.Object(body)
	if err != nil {
		return "", "", "", false
	}
	if code, _ = o.String("error"); code == "" {
		return "", "", "", false
	}
	description, _ = o.String("error_description")
	uri, _ = o.String("error_uri")
	return code, description, uri, true
}

// errorCodes are the registered error codes (RFC 6749 sections 4.1.2.1 and 5.2,
// RFC 6750 section 3.1, RFC 7009 section 2.2.1, OpenID Connect Core section
// 3.1.2.6). They say what went wrong, and hold nothing of a request.
var errorCodes = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable",
	"invalid_token", "insufficient_scope", "unsupported_token_type",
	"interaction_required", "login_required", "account_selection_required", "consent_required",
	"invalid_request_uri", "invalid_request_object", "request_not_supported", "request_uri_not_supported", "registration_not_supported",
}

// errorCode returns code as it is where it is registered, so that a secret that
// is a part of it does not hide what it means; else what clean makes of it.
func errorCode(code string, clean func(string) string) string {
	if slices.Contains(errorCodes, code) {
		return code
	}
	return clean(code)
}

// isVSCHAR reports whether s is 1*VSCHAR, RFC 6749 appendix A: nothing else may
// reach an HTTP header.
func isVSCHAR(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}
