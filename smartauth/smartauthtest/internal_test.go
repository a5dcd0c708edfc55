package smartauthtest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestIntersect(t *testing.T) {
	for _, test := range []struct{ a, b, want string }{
		{"openid", "openid", "openid"},
		{"openid", "fhirUser", ""},
		{"system/*.rs", "system/*.rs", "system/*.rs"},
		{"system/*.rs", "system/*.cruds", "system/*.rs"},
		{"system/*.cruds", "system/*.rs", "system/*.rs"},
		{"system/*.*", "system/Patient.read", "system/Patient.rs"},
		{"system/Patient.read", "system/*.rs", "system/Patient.read"},
		{"system/Patient.write", "system/*.rs", ""},
		{"system/Patient.r", "user/Patient.r", ""},
		{"system/Patient.r", "system/Observation.r", ""},
		{"patient/Observation.rs?category=a", "patient/Observation.rs", "patient/Observation.rs?category=a"},
		{"patient/Observation.rs", "patient/Observation.rs?category=a", "patient/Observation.rs?category=a"},
		{"patient/Observation.rs?category=b", "patient/Observation.rs?category=a", ""},
		{"launch/patient", "launch/patient", "launch/patient"},
	} {
		if got := intersect(test.a, test.b); got != test.want {
			t.Errorf("intersect(%q, %q) = %q, want %q", test.a, test.b, got, test.want)
		}
	}
}

func TestParseScope(t *testing.T) {
	for _, text := range []string{
		"", "patient", "patient/", "patient/Patient", "patient/.rs", "patient/Patient.", "patient/Patient.sr", "patient/Patient.rr",
		"patient/Patient.x", "patient/Patient.rs?", "practitioner/Patient.rs", "launch/patient", "Patient/Patient.rs",
	} {
		if sc, ok := parseScope(text); ok {
			t.Errorf("parseScope(%q) = %+v", text, sc)
		}
	}
}

func TestPurge(t *testing.T) {
	now := time.Unix(0, 0)
	srv := NewUnstarted(&Options{Clock: func() time.Time { return now }})
	defer srv.Close()
	for range 20_000 {
		srv.IssueToken("c", "system/*.rs")
		srv.grants.addCode(&authorizationCode{family: &family{}, expires: now.Add(time.Minute)}, now)
		srv.replays.first("c", random(), now.Add(5*time.Minute), now)
		now = now.Add(10 * time.Second)
	}
	if n := len(srv.grants.access) + len(srv.grants.codes); n > 4096 {
		t.Errorf("%d tokens and codes kept", n)
	}
	if n := len(srv.replays.seen); n > 2048 {
		t.Errorf("%d jti kept", n)
	}
}

func FuzzScope(f *testing.F) {
	for _, text := range []string{"system/*.rs", "patient/Patient.read", "user/Observation.cruds?code=a|b", "launch/patient", "a/b.c"} {
		f.Add(text, "system/*.cruds")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		both := intersect(a, b)
		if both == "" {
			return
		}
		if !covers([]string{a}, []string{both}) || !covers([]string{b}, []string{both}) {
			t.Errorf("intersect(%q, %q) = %q, which is more than both allow", a, b, both)
		}
		if sc, ok := parseScope(both); ok && !sc.v1 {
			if again, ok := parseScope(sc.String()); !ok || again != sc {
				t.Errorf("%q is read as %+v and, written again, as %+v", both, sc, again)
			}
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":1,"a":2}`, `{"a":{"b":[1]}} `, `{"a":1}x`, `[]`, `{"a"`, "{\"\xff\":1}", `{"a":nul}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		members, err := decodeObject(raw)
		if err == nil && members == nil {
			t.Error("neither members nor an error")
		}
		set, err := parseKeySet(raw)
		if err != nil {
			return
		}
		for _, k := range set.keys {
			for _, alg := range []string{"RS384", "ES384"} {
				if key, err := set.find(k.kid, alg); err == nil && !fits(key, alg) {
					t.Errorf("a key that does not fit %s was found", alg)
				}
			}
		}
	})
}

func FuzzFormDecode(f *testing.F) {
	for _, text := range []string{"a+b", "%41", "%zz", "a:b", "~*", "%C3%A9", "%"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := formDecode(url.QueryEscape(text)); err != nil || got != text {
			t.Errorf("form encoding of %q is read as %q, %v", text, got, err)
		}
		if got, err := formDecode(text); err == nil {
			if again, err := formDecode(url.QueryEscape(got)); err != nil || again != got {
				t.Errorf("%q, read as %q, comes back as %q, %v", text, got, again, err)
			}
		}
	})
}

func FuzzTokenRequest(f *testing.F) {
	f.Add("grant_type=client_credentials&scope=system%2F*.rs", "Basic YTpz", "application/x-www-form-urlencoded")
	f.Add("client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=e30.e30.", "", "application/x-www-form-urlencoded")
	f.Add("grant_type=refresh_token&client_id=p&refresh_token=x", "", "application/x-www-form-urlencoded; charset=utf-8")
	f.Add("grant_type=authorization_code&client_id=p&code=x&redirect_uri=r&code_verifier="+strings.Repeat("v", 43), "", "text/plain")
	f.Fuzz(func(t *testing.T, body, authorization, contentType string) {
		srv := NewUnstarted(&Options{MaxRequests: 1})
		defer srv.Close()
		srv.AddClient(Client{ID: "a", Secrets: []string{"s"}})
		srv.AddClient(Client{ID: "p"})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.TokenURL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header["Authorization"] = []string{authorization}
		req.Header["Content-Type"] = []string{contentType}
		if authorization == "" {
			delete(req.Header, "Authorization")
		}
		resp, err := srv.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if !slices.Contains([]int{200, 400, 401}, resp.StatusCode) {
			t.Errorf("status %d", resp.StatusCode)
		}
		if resp.StatusCode == 200 && !strings.HasPrefix(strings.ToLower(authorization), "basic ") && !strings.Contains(body, "client_secret") {
			t.Errorf("a token without credentials: %q", body)
		}
		srv.Requests()
	})
}

func TestSplitScope(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
		ok   bool
	}{
		{"", nil, true}, {"a b", []string{"a", "b"}, true}, {" a", nil, false}, {"a  b", nil, false}, {"a\"", nil, false}, {"a\tb", nil, false}, {"ä", nil, false},
	} {
		got, ok := splitScope(test.text)
		if diff := cmp.Diff(test.want, got); diff != "" || ok != test.ok {
			t.Errorf("splitScope(%q) = %q, %t", test.text, got, ok)
		}
	}
}
