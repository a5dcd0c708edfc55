package smartauth

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smartcred/smartcred/internal/strictjson"
)

type tokenVectors struct {
	Documents []tokenVector
}

type tokenVector struct {
	File       string
	HTTPStatus int `json:"http_status"`
	Outcome    string
	Conformant bool
	ByProfile  map[string]bool `json:"conformant_by_profile"`
	Values     map[string]any
	Violations []string
	Error      map[string]string
	Lenient    struct {
		ExpiresIn *float64 `json:"expires_in"`
		Scope     *string
		TokenType string `json:"token_type"`
		Capped    bool
	}
	Profile string
}

// refusedByPolicy are the policy vectors where this package is strict.
var refusedByPolicy = []string{"duplicate_access_token.json"}

var received = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTokenVectors(t *testing.T) {
	var vectors tokenVectors
	readVectors(t, "token_responses", &vectors)
	for _, v := range vectors.Documents {
		t.Run(v.File, func(t *testing.T) {
			body := readTestdata(t, "token_responses", v.File)
			code, description, uri, isError := parseOAuthError(body)
			token, err := ParseToken(body, []string{"as", "requested"}, received)
			if isError && err == nil {
				t.Fatal("both an error and a token")
			}
			switch {
			case v.Outcome == "oauth_error":
				got := map[string]string{"error": code, "error_description": description, "error_uri": uri}
				maps.DeleteFunc(got, func(_, value string) bool { return value == "" })
				if diff := cmp.Diff(v.Error, got); !isError || diff != "" {
					t.Errorf("error = %t (-want +got):\n%s", isError, diff)
				}
			case isError:
				t.Errorf("read as the OAuth error %q", code)
			case v.HTTPStatus != 200: // the body alone does not decide
			case v.Outcome == "invalid_response", slices.Contains(refusedByPolicy, v.File):
				if err == nil {
					t.Fatal("accepted")
				}
				if !errors.Is(err, errInvalidAnswer) || strings.Contains(err.Error(), "test-access-token") {
					t.Errorf("error = %v", err)
				}
			case err != nil:
				t.Error(err)
			default:
				v.check(t, token)
			}
		})
	}
}

func (v tokenVector) check(t *testing.T, token *Token) {
	t.Helper()
	want := v.Values
	if want == nil { // token_type_missing.json has no values
		want = map[string]any{"access_token": "test-access-token-not-a-secret", "scope": "system/*.rs", "expires_in": 300.0}
		want["token_type"] = v.Lenient.TokenType
	}
	if v.Lenient.ExpiresIn != nil {
		want["expires_in"] = *v.Lenient.ExpiresIn
	}
	text := func(name string) string { s, _ := want[name].(string); return s }
	for name, got := range map[string]string{
		"access_token": token.AccessToken(), "token_type": token.Type, "refresh_token": token.RefreshToken(),
		"id_token": token.IDToken(), "patient": token.Context.Patient, "encounter": token.Context.Encounter,
		"intent": token.Context.Intent, "smart_style_url": token.Context.SmartStyleURL, "tenant": token.Context.Tenant,
	} {
		if got != text(name) {
			t.Errorf("%s = %q, want %q", name, got, text(name))
		}
	}
	lifetime := DefaultLifetime
	switch seconds := want["expires_in"].(type) {
	case float64:
		lifetime = time.Duration(seconds) * time.Second
	case string: // beyond 2^53
		lifetime = MaxLifetime
	}
	if v.Lenient.Capped {
		lifetime = MaxLifetime
	}
	if got := token.Expiry.Sub(received); got != lifetime {
		t.Errorf("expires after %s, want %s", got, lifetime)
	}
	scopes := []string{"as", "requested"}
	if scope, ok := want["scope"].(string); ok {
		scopes = strings.Fields(scope)
	}
	if diff := cmp.Diff(scopes, token.Scopes); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	for profile, name := range map[Profile]string{ProfileAppLaunch: "app_launch", ProfileBackendServices: "backend"} {
		conformant, stated := v.ByProfile[name]
		switch {
		case v.Profile != "" && v.Profile != name, !stated && v.ByProfile != nil:
			continue
		case !stated:
			conformant = v.Conformant
		}
		got := slices.DeleteFunc(token.Violations(profile), func(v Violation) bool { return v.Level == levelShouldNot })
		// The Content-Type is not the body's.
		if v.File != "text_plain_content_type.json" && conformant != (len(got) == 0) {
			t.Errorf("violations for %s = %v, conformant %t", name, got, conformant)
		}
	}
	for _, violation := range v.Violations {
		field, _, _ := strings.Cut(violation, ":")
		if strings.HasPrefix(violation, "Content-Type") || strings.HasPrefix(violation, "byte order mark") {
			continue
		}
		if !slices.ContainsFunc(token.Violations(ProfileAppLaunch), func(v Violation) bool { return v.Field == field }) {
			t.Errorf("no violation for %q", violation)
		}
	}
}

func TestTokenContext(t *testing.T) {
	token, err := ParseToken(readTestdata(t, "token_responses", "full_launch_context.json"), nil, received)
	if err != nil {
		t.Fatal(err)
	}
	banner := true
	want := LaunchContext{
		Patient: "pat-123", Encounter: "enc-456", NeedPatientBanner: &banner,
		Intent: "reconcile-medications", SmartStyleURL: "https://ehr.example.org/styles/smart_v1.json",
		Tenant: "00000000-0000-4000-8000-000000000001",
		FHIRContext: []ContextReference{
			{Reference: "ImagingStudy/789"},
			{Canonical: "https://ehr.example.org/Questionnaire/q1|v2", Type: "Questionnaire", Role: "https://ehr.example.org/role/in-progress"},
			{Identifier: token.Context.FHIRContext[2].Identifier, Type: "ServiceRequest"},
		},
	}
	if diff := cmp.Diff(want, token.Context); diff != "" {
		t.Errorf("context (-want +got):\n%s", diff)
	}
	if raw, ok := token.Member("vendor_extra"); !ok || !json.Valid(raw) {
		t.Errorf("Member = %s, %t", raw, ok)
	}
	if _, ok := token.Member("Vendor_Extra"); ok {
		t.Error("Member is not case-sensitive")
	}
}

func TestTokenAnswerPolicies(t *testing.T) {
	const head = `{"access_token":"a","token_type":"Bearer","scope":"s",`
	for name, tt := range map[string]struct {
		answer     string
		violations []string // for a backend service, notes left out
		check      func(*Token) bool
	}{
		"expires_in no number": {head + `"expires_in":"soon"}`, []string{"expires_in: wrong_type (SHALL)"},
			func(k *Token) bool {
				_, stated := k.ExpiresIn()
				return !stated && k.Expiry.Sub(received) == DefaultLifetime
			}},
		"expires_in hexadecimal": {head + `"expires_in":"0x10"}`, []string{"expires_in: wrong_type (SHALL)"},
			func(k *Token) bool { return k.Expiry.Sub(received) == DefaultLifetime }},
		"expires_in infinite": {head + `"expires_in":"Inf"}`, []string{"expires_in: wrong_type (SHALL)"},
			func(k *Token) bool { return k.Expiry.Sub(received) == DefaultLifetime }},
		"expires_in boolean": {head + `"expires_in":true}`, []string{"expires_in: wrong_type (SHALL)"},
			func(k *Token) bool { return k.Expiry.Sub(received) == DefaultLifetime }},
		"expires_in beyond float64": {head + `"expires_in":1e999}`, []string{"expires_in: forbidden_value (SHOULD NOT)"},
			func(k *Token) bool { return k.Expiry.Sub(received) == MaxLifetime }},
		"expires_in far below zero": {head + `"expires_in":-1e999}`, []string{"expires_in: forbidden_value (SHALL NOT)"},
			func(k *Token) bool { d, stated := k.ExpiresIn(); return stated && d == 0 && k.Expiry.Equal(received) }},
		"expires_in string with fraction": {head + `"expires_in":" 60.9 "}`,
			[]string{"expires_in: wrong_type (SHALL)", "expires_in: forbidden_value (SHALL NOT)"},
			func(k *Token) bool { return k.Expiry.Sub(received) == time.Minute }},
		"token_type null": {`{"access_token":"a","token_type":null,"scope":"s","expires_in":1}`, []string{"token_type: wrong_type (SHALL)"},
			func(k *Token) bool { return k.Type == "Bearer" }},
		"scope null": {`{"access_token":"a","token_type":"bearer","scope":null,"expires_in":1}`, []string{"scope: wrong_type (SHALL)"},
			func(k *Token) bool { return cmp.Equal(k.Scopes, []string{"asked"}) }},
		"scope a number": {`{"access_token":"a","token_type":"bearer","scope":7,"expires_in":1}`, []string{"scope: wrong_type (SHALL)"},
			func(k *Token) bool { return len(k.Scopes) == 0 }},
		"scope a mixed array": {`{"access_token":"a","token_type":"bearer","scope":["x",7],"expires_in":1}`, []string{"scope: wrong_type (SHALL)"},
			func(k *Token) bool { return len(k.Scopes) == 0 }},
		"refresh token for a backend": {head + `"expires_in":1,"refresh_token":"r"}`, []string{"refresh_token: forbidden_value (SHOULD NOT)"},
			func(k *Token) bool { return k.RefreshToken() == "r" }},
		"refresh token with line break": {head + `"expires_in":1,"refresh_token":"r\nX: y"}`,
			[]string{"refresh_token: wrong_type (SHALL)", "refresh_token: forbidden_value (SHOULD NOT)"},
			func(k *Token) bool { return k.RefreshToken() == "" }},
		"error null": {head + `"expires_in":1,"error":null}`, nil, func(k *Token) bool { return k.AccessToken() == "a" }},
		"byte order mark": {"\xef\xbb\xbf" + head + `"expires_in":1}`, []string{": byte_order_mark (RFC 8259 8.1 MUST NOT)"},
			func(k *Token) bool { return k.AccessToken() == "a" }},
		"unknown duplicates": {head + `"expires_in":1,"x":1,"x":2}`, []string{": duplicate_member (RFC 8259 4 SHOULD)"},
			func(k *Token) bool { raw, _ := k.Member("x"); return string(raw) == "2" }},
		"fhirContext of strings and worse": {
			head + `"expires_in":1,"fhirContext":["A/1",7,{},"",{"reference":"B/2","type":3,"identifier":"x","role":""}]}`,
			[]string{
				"fhirContext: wrong_type (SHALL)", "fhirContext: wrong_type (SHALL)", "fhirContext: missing_value (SHALL)", "fhirContext: wrong_type (SHALL)",
				"fhirContext: wrong_type (SHALL)", "fhirContext: wrong_type (SHALL)", "fhirContext: wrong_type (SHALL)",
			},
			func(k *Token) bool {
				return cmp.Equal(k.Context.FHIRContext, []ContextReference{{Reference: "A/1"}, {Reference: "B/2"}})
			}},
		"authorization_details an object": {head + `"expires_in":1,"authorization_details":{}}`, []string{"authorization_details: wrong_type (SHALL)"},
			func(k *Token) bool { return k.Context.AuthorizationDetails == nil }},
		"authorization_details": {head + `"expires_in":1,"authorization_details":[{"type":"smart_on_fhir"}]}`, nil,
			func(k *Token) bool {
				return string(k.Context.AuthorizationDetails) == `[{"type":"smart_on_fhir"}]`
			}},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := ParseToken([]byte(tt.answer), []string{"asked"}, received)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range token.Violations(ProfileBackendServices) {
				v.Note = ""
				got = append(got, v.String())
			}
			if diff := cmp.Diff(tt.violations, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if !tt.check(token) {
				t.Errorf("lifetime %s, scopes %q, type %q, context %+v", token.Expiry.Sub(received), token.Scopes, token.Type, token.Context)
			}
		})
	}
}

func TestParseTokenRefuses(t *testing.T) {
	for name, answer := range map[string]string{
		"duplicate used member":   `{"access_token":"canary","scope":"a","scope":"b"}`,
		"escaped duplicate":       `{"access_token":"canary","access\u005ftoken":"other"}`,
		"token_type empty":        `{"access_token":"canary","token_type":""}`,
		"token_type a number":     `{"access_token":"canary","token_type":1}`,
		"error not a string":      `{"access_token":"canary","error":{}}`,
		"error empty":             `{"access_token":"canary","error":""}`,
		"non-ASCII":               `{"access_token":"canary\u00e9"}`,
		"delete character":        `{"access_token":"canary\u007f"}`,
		"lone surrogate":          `{"access_token":"canary\ud800"}`,
		"nested too deep":         `{"access_token":"canary","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`,
		"not UTF-8":               "{\"access_token\":\"canary\",\"x\":\"\xff\"}",
		"an object after another": `{"access_token":"canary"}{}`,
	} {
		t.Run(name, func(t *testing.T) {
			token, err := ParseToken([]byte(answer), nil, received)
			if err == nil || token != nil || !errors.Is(err, errInvalidAnswer) || strings.Contains(err.Error(), "canary") {
				t.Errorf("ParseToken = %v, %v", token, err)
			}
		})
	}
}

func TestAnswerRestoresToken(t *testing.T) {
	body := readTestdata(t, "token_responses", "full_launch_context.json")
	first, err := ParseToken(body, nil, received)
	if err != nil {
		t.Fatal(err)
	}
	answer := first.Answer()
	again, err := ParseToken(answer, nil, first.Received)
	if err != nil {
		t.Fatal(err)
	}
	clear(answer)
	clear(body)
	for _, token := range []*Token{first, again} {
		if token.AccessToken() != "test-access-token-not-a-secret" || token.RefreshToken() != "test-refresh-token-not-a-secret" ||
			!token.Expiry.Equal(first.Expiry) || token.Context.Patient != "pat-123" || !json.Valid(token.Answer()) {
			t.Errorf("restored token differs: expiry %s, context %+v", token.Expiry, token.Context)
		}
	}
	if diff := cmp.Diff(first.Context, again.Context); diff != "" {
		t.Errorf("context (-first +again):\n%s", diff)
	}
}

func addTokenSeeds(f *testing.F, add func(body []byte)) {
	entries, err := os.ReadDir(filepath.Join("testdata", "token_responses"))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		add(readTestdata(f, "token_responses", e.Name()))
	}
}

func FuzzParseToken(f *testing.F) {
	addTokenSeeds(f, func(body []byte) { f.Add(body, "openid launch") })
	f.Fuzz(func(t *testing.T, body []byte, scope string) {
		token, err := ParseToken(body, strings.Fields(scope), received)
		if err != nil {
			if !errors.Is(err, errInvalidAnswer) {
				t.Fatal(err)
			}
			return
		}
		if _, _, _, isError := parseOAuthError(body); isError {
			t.Fatal("both an error and a token")
		}
		if !isVSCHAR(token.AccessToken()) || !strings.EqualFold(token.Type, "bearer") {
			t.Fatalf("token of type %q is not usable in a header", token.Type)
		}
		if d := token.Expiry.Sub(received); d < 0 || d > MaxLifetime {
			t.Fatalf("expires after %s", d)
		}
		again, err := ParseToken(token.Answer(), strings.Fields(scope), received)
		if err != nil || again.AccessToken() != token.AccessToken() || !again.Expiry.Equal(token.Expiry) || !slices.Equal(again.Scopes, token.Scopes) {
			t.Fatalf("restored as another token: %v", err)
		}
		if token.OAuth2().AccessToken != token.AccessToken() {
			t.Fatal("another token for x/oauth2")
		}
		token.Violations(ProfileAppLaunch)
		token.Violations(ProfileBackendServices)
	})
}

func FuzzParseOAuthError(f *testing.F) {
	addTokenSeeds(f, func(body []byte) { f.Add(body) })
	f.Fuzz(func(t *testing.T, body []byte) {
		code, description, uri, ok := parseOAuthError(body)
		if ok != (code != "") || !ok && description+uri != "" {
			t.Fatalf("parseOAuthError = %q, %q, %q, %s", code, description, uri, strconv.FormatBool(ok))
		}
		if _, err := strictjson.Object(body); ok && err != nil {
			t.Fatal("an error answer that is no object")
		}
	})
}
