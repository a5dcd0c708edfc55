package smartauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/smartcred/smartcred/internal/strictjson"
)

type configurationVectors struct {
	FHIRBaseURL string `json:"fhir_base_url"`
	Documents   []struct {
		File            string
		JSON            string
		Violations      []Violation
		AppLaunch       any  `json:"app_launch"`
		BackendServices bool `json:"backend_services"`
		Fields          map[string]any
		LastWins        map[string]any `json:"last_wins"`
		Resolved        []map[string]string
	}
}

func readVectors(t testing.TB, folder string, into any) {
	t.Helper()
	if err := json.Unmarshal(readTestdata(t, folder, "expected.json"), into); err != nil {
		t.Fatal(err)
	}
}

func readTestdata(t testing.TB, folder, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", folder, file))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var sortViolations = cmpopts.SortSlices(func(a, b Violation) bool {
	return a.Field+" "+string(a.Rule) < b.Field+" "+string(b.Rule)
})

func TestConfigurationVectors(t *testing.T) {
	var vectors configurationVectors
	readVectors(t, "smart_configuration", &vectors)
	for _, v := range vectors.Documents {
		t.Run(v.File, func(t *testing.T) {
			document := readTestdata(t, "smart_configuration", v.File)
			c, err := ParseConfiguration(vectors.FHIRBaseURL, document)
			if v.JSON != "object" {
				if !errors.Is(err, strictjson.ErrNotObject) {
					t.Fatalf("ParseConfiguration = %v, want ErrNotObject", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Violations, c.Violations(), sortViolations,
				cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Violation{}, "Note")); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			wantLaunch, stated := v.AppLaunch.(bool)
			if !stated {
				wantLaunch = true // a policy vector: the last member wins, which is usable
			}
			if got := c.UsableForAppLaunch(); got != wantLaunch {
				t.Errorf("UsableForAppLaunch = %t", got)
			}
			if got := c.UsableForBackendServices(); got != v.BackendServices {
				t.Errorf("UsableForBackendServices = %t", got)
			}
			fields := configurationFields(t, c)
			if v.Fields != nil {
				if diff := cmp.Diff(v.Fields, fields); diff != "" {
					t.Errorf("fields (-want +got):\n%s", diff)
				}
			}
			for name, want := range v.LastWins {
				if diff := cmp.Diff(want, fields[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
			// A slash is appended to the base first: the entry with it holds for both.
			for _, base := range v.Resolved {
				resolved, err := ParseConfiguration(base["fhir_base_url"], document)
				if err != nil {
					t.Fatal(err)
				}
				fields := configurationFields(t, resolved)
				for name, want := range v.Resolved[1] {
					if got := fields[name]; name != "fhir_base_url" && name != "rule" && got != want {
						t.Errorf("%s at %s = %v, want %s", name, base["fhir_base_url"], got, want)
					}
				}
			}
		})
	}
}

// configurationFields returns the known members as JSON has them.
func configurationFields(t *testing.T, c *Configuration) map[string]any {
	t.Helper()
	bare := *c
	bare.document, bare.Extra = nil, nil
	data, err := json.Marshal(&bare)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

func TestConfigurationKeepsUnknownMembers(t *testing.T) {
	document := readTestdata(t, "smart_configuration", "06_unknown_extra_fields.json")
	c, err := ParseConfiguration("https://ehr.example.org", document)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name := range c.Extra {
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{"TOKEN_ENDPOINT", "Token_Endpoint", "http://example.org/ext", "userinfo_endpoint", "x_vendor"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Extra (-want +got):\n%s", diff)
	}
	if string(c.Extra["http://example.org/ext"]) != "1000" {
		t.Errorf("extension = %s", c.Extra["http://example.org/ext"])
	}
	if raw := string(c.Raw()); raw != strings.TrimSpace(string(document)) {
		t.Errorf("Raw = %s", raw)
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(json.Unmarshal(encoded, &a), json.Unmarshal(document, &b)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("MarshalJSON (-want +got):\n%s", diff)
	}
}

func TestConfigurationMadeByHand(t *testing.T) {
	c := &Configuration{TokenEndpoint: "https://a.example/token", Extra: map[string]json.RawMessage{"x": json.RawMessage("1")}}
	got, err := json.Marshal(c)
	if err != nil || string(got) != `{"token_endpoint":"https://a.example/token","x":1}` {
		t.Errorf("MarshalJSON = %s, %v", got, err)
	}
	if c.Raw() != nil {
		t.Error("Raw is not nil")
	}
	if got := c.Violations(); len(got) != 3 {
		t.Errorf("violations = %v, want the three missing lists", got)
	}
}

func TestConfigurationViolations(t *testing.T) {
	const rest = `"grant_types_supported":["client_credentials"],"capabilities":[],"code_challenge_methods_supported":["S256"]`
	const good = `"token_endpoint":"https://a.example/token",` + rest
	for name, tt := range map[string]struct {
		document string
		want     []string // field: rule (level)
		token    string
	}{
		"good":                    {`{` + good + `}`, nil, "https://a.example/token"},
		"byte order mark":         {"\xef\xbb\xbf{" + good + `}`, []string{": byte_order_mark (RFC 8259 8.1 MUST NOT)"}, "https://a.example/token"},
		"empty token endpoint":    {`{"token_endpoint":"",` + rest + `}`, []string{"token_endpoint: missing_required (SHALL)"}, ""},
		"null token endpoint":     {`{"token_endpoint":null,` + rest + `}`, []string{"token_endpoint: wrong_type (SHALL)"}, ""},
		"token endpoint no URL":   {`{"token_endpoint":"https://a b/%zz",` + rest + `}`, []string{"token_endpoint: not_absolute_url (SHALL)"}, ""},
		"token endpoint opaque":   {`{"token_endpoint":"urn:a:b",` + rest + `}`, []string{"token_endpoint: not_absolute_url (SHALL)"}, ""},
		"token endpoint hostless": {`{"token_endpoint":"https:///token",` + rest + `}`, []string{"token_endpoint: not_absolute_url (SHALL)"}, ""},
		"fragment":                {`{"token_endpoint":"https://a.example/token#f",` + rest + `}`, []string{"token_endpoint: forbidden_value (SHALL NOT)"}, "https://a.example/token#f"},
		"password": {`{"token_endpoint":"https://u:canary@a.example/token",` + rest + `}`,
			[]string{"token_endpoint: forbidden_value (SHALL NOT)"}, "https://u:canary@a.example/token"},
		"issuer without TLS": {`{"issuer":"http://a.example",` + good + `}`,
			[]string{"issuer: unexpected_conditional (required with sso-openid-connect, otherwise omitted)", "issuer: insecure_url (SHALL)"}, "https://a.example/token"},
		"escaped member name": {`{"token\u005fendpoint":"https://a.example/token",` + rest + `}`, nil, "https://a.example/token"},
		"escaped duplicate": {`{"token\u005fendpoint":"https://b.example/",` + good + `}`,
			[]string{"token_endpoint: duplicate_member (RFC 8259 4 SHOULD)"}, "https://a.example/token"},
		"unknown duplicate": {`{"x":1,"x":2,` + good + `}`, []string{": duplicate_member (RFC 8259 4 SHOULD)"}, "https://a.example/token"},
		"relative issuer": {`{"issuer":"ehr","jwks_uri":"https://a.example/jwks",` + strings.Replace(good, "[]", `["sso-openid-connect"]`, 1) + `}`,
			[]string{"issuer: not_absolute_url (SHALL)"}, "https://a.example/token"},
		"openid without issuer and keys": {`{` + strings.Replace(good, "[]", `["sso-openid-connect"]`, 1) + `}`,
			[]string{"issuer: missing_conditional (SHALL with sso-openid-connect)", "jwks_uri: missing_conditional (SHALL with sso-openid-connect)"}, "https://a.example/token"},
		"empty revocation endpoint": {`{"revocation_endpoint":"",` + good + `}`, []string{"revocation_endpoint: missing_value (optional field)"}, "https://a.example/token"},
		"iss parameter a string": {`{"authorization_response_iss_parameter_supported":"true",` + good + `}`,
			[]string{"authorization_response_iss_parameter_supported: wrong_type (optional field)"}, "https://a.example/token"},
		"identifier a string": {`{"user_access_brand_identifier":"x",` + good + `}`,
			[]string{"user_access_brand_identifier: wrong_type (optional field)"}, "https://a.example/token"},
		"identifier without value": {`{"user_access_brand_identifier":{"system":"x"},` + good + `}`,
			[]string{"user_access_brand_identifier: missing_value (SHALL)"}, "https://a.example/token"},
		"associated endpoints": {`{"associated_endpoints":[1,{},{"url":"http://b.example","capabilities":["x"]},{"url":"c","capabilities":7}],` + good + `}`,
			[]string{
				"associated_endpoints: wrong_type (optional field)", "associated_endpoints: missing_value (optional field)",
				"associated_endpoints: missing_value (optional field)", "associated_endpoints: not_absolute_url (SHALL)",
				"associated_endpoints: insecure_url (SHALL)",
			}, "https://a.example/token"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseConfiguration("https://ehr.example.org/r4", []byte(tt.document))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range c.Violations() {
				v.Note = ""
				got = append(got, v.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("violations (-want +got):\n%s", diff)
			}
			if c.TokenEndpoint != tt.token {
				t.Errorf("TokenEndpoint = %q, want %q", c.TokenEndpoint, tt.token)
			}
		})
	}
}

func TestRelativeEndpoints(t *testing.T) {
	for name, tt := range map[string]struct{ base, endpoint, want string }{
		"below the base":         {"https://a.example/r4", "token", "https://a.example/r4/token"},
		"at the root":            {"https://a.example/r4", "/token", "https://a.example/token"},
		"base without a path":    {"https://a.example", "token", "https://a.example/token"},
		"escaped slash in base":  {"https://a.example/t%2F1/r4", "token", "https://a.example/t%2F1/r4/token"},
		"query and user in base": {"https://u:p@a.example/r4?x=1#f", "token?y=2", "https://a.example/r4/token?y=2"},
		"another host":           {"https://a.example/r4", "//b.example/token", "https://b.example/token"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseConfiguration(tt.base, []byte(`{"token_endpoint":"`+tt.endpoint+`"}`))
			if err != nil || c.TokenEndpoint != tt.want {
				t.Errorf("TokenEndpoint = %q, %v, want %q", c.TokenEndpoint, err, tt.want)
			}
		})
	}
}

func ExampleParseConfiguration() {
	c, err := ParseConfiguration("https://ehr.example.org/r4", []byte(`{
		"token_endpoint": "auth/token",
		"capabilities": ["client-confidential-asymmetric"],
		"grant_types_supported": ["client_credentials"]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.TokenEndpoint, c.SupportsBackendServices())
	for _, v := range c.Violations() {
		fmt.Println(v)
	}
	// Output:
	// https://ehr.example.org/r4/auth/token true
	// token_endpoint: not_absolute_url (SHALL): resolved against the FHIR base URL
	// code_challenge_methods_supported: missing_required (SHALL)
}

func TestParseConfigurationRefuses(t *testing.T) {
	const canary = "canary-in-the-document"
	for name, tt := range map[string]struct {
		base, document string
		want           error
	}{
		"empty":         {"https://a.example", "", strictjson.ErrSyntax},
		"HTML":          {"https://a.example", "<html>" + canary, strictjson.ErrSyntax},
		"cut off":       {"https://a.example", `{"token_endpoint":"` + canary, strictjson.ErrSyntax},
		"trailing":      {"https://a.example", `{}` + canary, strictjson.ErrSyntax},
		"not UTF-8":     {"https://a.example", "{\"" + canary + "\xff\":1}", strictjson.ErrEncoding},
		"too deep":      {"https://a.example", `{"` + canary + `":` + strings.Repeat("[", 100), strictjson.ErrDepth},
		"string":        {"https://a.example", `"` + canary + `"`, strictjson.ErrNotObject},
		"relative base": {canary, `{}`, nil},
		"broken base":   {"https://u:" + canary + "@a b/", `{}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ParseConfiguration(tt.base, []byte(tt.document))
			if err == nil || c != nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("ParseConfiguration = %v, %v, want %v", c, err, tt.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("error shows the input: %v", err)
			}
		})
	}
}

func TestParseConfigurationKeepsNothingOfTheCaller(t *testing.T) {
	document := []byte(`{"token_endpoint":"https://a.example/token","x":"keep"}`)
	c, err := ParseConfiguration("https://a.example", document)
	if err != nil {
		t.Fatal(err)
	}
	clear(document)
	if string(c.Extra["x"]) != `"keep"` || c.TokenEndpoint != "https://a.example/token" {
		t.Errorf("changed with the caller's buffer: %s", c.Raw())
	}
}

func FuzzParseConfiguration(f *testing.F) {
	entries, err := os.ReadDir(filepath.Join("testdata", "smart_configuration"))
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		f.Add("https://ehr.example.org/apis/fhir", readTestdata(f, "smart_configuration", e.Name()))
	}
	f.Fuzz(func(t *testing.T, base string, document []byte) {
		c, err := ParseConfiguration(base, document)
		if err != nil {
			return
		}
		for _, v := range c.Violations() {
			if v.Rule == "" || v.Level == "" {
				t.Fatalf("violation without rule or level: %v", v)
			}
		}
		for _, u := range c.urlFields() {
			if *u.value != "" && !isAbsolute(*u.value) {
				t.Fatalf("%s = %q is not absolute", u.name, *u.value)
			}
		}
		encoded, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfiguration(base, encoded)
		if err != nil {
			t.Fatal(err)
		}
		if again.TokenEndpoint != c.TokenEndpoint || !slices.Equal(again.Capabilities, c.Capabilities) || len(again.Extra) != len(c.Extra) {
			t.Fatalf("another configuration after a round trip: %s", encoded)
		}
	})
}
