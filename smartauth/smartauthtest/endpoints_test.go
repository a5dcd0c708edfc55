package smartauthtest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestConfiguration(t *testing.T) {
	eachServer(t, smartauthtest.Options{URL: "https://ehr.example.test/tenant/a%20b/r4/", IssParameter: true}, func(t *testing.T, srv *smartauthtest.Server) {
		if !strings.HasSuffix(srv.URL, "/r4") || srv.ConfigurationURL != srv.URL+"/.well-known/smart-configuration" {
			t.Errorf("URLs %s, %s", srv.URL, srv.ConfigurationURL)
		}
		r := get(t, srv, srv.ConfigurationURL, "")
		if got := r.Header.Get("Content-Type"); r.StatusCode != http.StatusOK || got != "application/json" {
			t.Fatalf("status %d, Content-Type %q", r.StatusCode, got)
		}
		doc := r.members(t)
		for name, want := range map[string]string{
			"issuer": srv.Issuer, "jwks_uri": srv.JWKSURL, "authorization_endpoint": srv.AuthorizeURL, "token_endpoint": srv.TokenURL,
			"introspection_endpoint": srv.IntrospectionURL, "revocation_endpoint": srv.RevocationURL,
		} {
			if doc[name] != want {
				t.Errorf("%s is %v, want %s", name, doc[name], want)
			}
		}
		if diff := cmp.Diff([]any{"S256"}, doc["code_challenge_methods_supported"]); diff != "" {
			t.Error(diff)
		}
		if doc["authorization_response_iss_parameter_supported"] != true {
			t.Error("the iss parameter is not announced")
		}
		if r.Header.Get("Cache-Control") != "max-age=300" {
			t.Errorf("Cache-Control %q", r.Header.Get("Cache-Control"))
		}

		conditional := func(etag string) *response {
			req, _ := http.NewRequest(http.MethodGet, srv.ConfigurationURL, nil)
			req.Header.Set("If-None-Match", etag)
			return do(t, srv, req)
		}
		etag := r.Header.Get("ETag")
		if r := conditional(`"other", W/` + etag); r.StatusCode != http.StatusNotModified || r.body != "" || r.Header.Get("ETag") != etag {
			t.Errorf("status %d, body %q", r.StatusCode, r.body)
		}
		srv.SetConfigurationMember("token_endpoint", "token")
		srv.SetConfigurationMember("capabilities", nil)
		srv.SetConfigurationCacheControl("")
		r = conditional(etag)
		doc = r.members(t)
		if _, ok := doc["capabilities"]; ok || doc["token_endpoint"] != "token" || r.Header.Get("Cache-Control") != "" {
			t.Errorf("changed document %s", r.body)
		}
		srv.SetConfiguration([]byte("<html>"))
		if r := get(t, srv, srv.ConfigurationURL, ""); r.body != "<html>\n" {
			t.Errorf("raw document %q", r.body)
		}
		srv.SetConfiguration(nil)
		if r := get(t, srv, srv.ConfigurationURL, ""); r.members(t)["token_endpoint"] != "token" {
			t.Errorf("document %s", r.body)
		}

		req, _ := http.NewRequest(http.MethodHead, srv.ConfigurationURL, nil)
		if r := do(t, srv, req); r.StatusCode != http.StatusOK || r.body != "" || r.ContentLength <= 0 {
			t.Errorf("HEAD: status %d, length %d, body %q", r.StatusCode, r.ContentLength, r.body)
		}
		if r := post(t, srv, srv.ConfigurationURL, nil, nil); r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST: status %d", r.StatusCode)
		}
		if doc := get(t, srv, srv.Issuer+"/.well-known/openid-configuration", "").members(t); doc["issuer"] != srv.Issuer {
			t.Errorf("OpenID configuration %v", doc)
		}
		if r := get(t, srv, strings.TrimSuffix(srv.Issuer, "/auth")+"/elsewhere", ""); r.StatusCode != http.StatusNotFound {
			t.Errorf("elsewhere: status %d", r.StatusCode)
		}
	})
}

func TestFHIR(t *testing.T) {
	clock := newClock()
	srv := newTokenServer(t, &smartauthtest.Options{Clock: clock.Now})
	srv.SetPatient("pat-3", map[string]any{"gender": "other"})
	all := srv.IssueToken("secret", "system/*.rs")
	for _, test := range []struct {
		name, path, scope string
		status            int
	}{
		{"metadata without a token", "/metadata", "", 200},
		{"no token", "/Patient/pat-1", "", 401},
		{"read", "/Patient/pat-1", "system/Patient.r", 200},
		{"read by v1", "/Patient/pat-1", "user/*.read", 200},
		{"read with search scope", "/Patient/pat-1", "system/Patient.s", 403},
		{"read with another type's scope", "/Patient/pat-1", "system/Observation.rs", 403},
		{"read with a narrowed scope", "/Patient/pat-1", "system/Patient.rs?active=true", 403},
		{"read in context", "/Patient/pat-1", "patient/Patient.r", 200},
		{"read out of context", "/Patient/pat-2", "patient/Patient.r", 403},
		{"search", "/Patient", "system/Patient.s", 200},
		{"search with read scope", "/Patient", "system/Patient.r", 403},
		{"search by another parameter", "/Patient?name=x", "system/Patient.s", 400},
		{"search malformed", "/Patient?_id=%zz", "system/Patient.s", 400},
		{"token in the query", "/Patient?access_token=x", "system/*.rs", 400},
		{"missing", "/Patient/none", "system/*.rs", 404},
		{"another type", "/Observation/1", "system/*.rs", 404},
		{"history", "/Patient/pat-1/_history", "system/*.rs", 404},
	} {
		t.Run(test.name, func(t *testing.T) {
			token := ""
			if test.scope != "" {
				token = srv.IssueToken("secret", test.scope)
			}
			r := get(t, srv, srv.URL+test.path, token)
			if r.StatusCode != test.status || r.Header.Get("Content-Type") != "application/fhir+json" {
				t.Fatalf("status %d, %s", r.StatusCode, r.body)
			}
			if m := r.members(t); test.status >= 400 && m["resourceType"] != "OperationOutcome" {
				t.Errorf("body %v", m)
			}
			if challenge := r.Header.Get("WWW-Authenticate"); (test.status == 401 || test.status == 403 || strings.Contains(test.path, "access_token")) != strings.HasPrefix(challenge, "Bearer") {
				t.Errorf("WWW-Authenticate %q", challenge)
			}
		})
	}
	search := func(query, scope string) (ids []string) {
		var bundle struct {
			Total int
			Entry []struct{ Resource struct{ ID string } }
		}
		if err := json.Unmarshal([]byte(get(t, srv, srv.URL+"/Patient"+query, srv.IssueToken("secret", scope)).body), &bundle); err != nil {
			t.Fatal(err)
		}
		for _, e := range bundle.Entry {
			ids = append(ids, e.Resource.ID)
		}
		if bundle.Total != len(ids) {
			t.Errorf("total %d of %v", bundle.Total, ids)
		}
		return ids
	}
	for _, test := range []struct {
		query, scope string
		want         []string
	}{
		{"", "system/*.s", []string{"pat-1", "pat-2", "pat-3"}},
		{"?_id=pat-3,pat-1,x", "system/*.s", []string{"pat-1", "pat-3"}},
		{"", "patient/*.s", []string{"pat-1"}},
		{"?_id=pat-2", "patient/*.s", nil},
	} {
		if diff := cmp.Diff(test.want, search(test.query, test.scope)); diff != "" {
			t.Errorf("search %q with %s:\n%s", test.query, test.scope, diff)
		}
	}

	wantInvalid := func(what, token string) {
		t.Helper()
		r := get(t, srv, srv.URL+"/Patient/pat-1", token)
		if r.StatusCode != 401 || r.Header.Get("WWW-Authenticate") != `Bearer error="invalid_token"` {
			t.Errorf("%s token: status %d, WWW-Authenticate %q", what, r.StatusCode, r.Header.Get("WWW-Authenticate"))
		}
	}
	wantInvalid("unknown", "x")
	clock.advance(299 * time.Second)
	if !srv.Active(all) {
		t.Error("the token ended early")
	}
	clock.advance(time.Second)
	wantInvalid("expired", all)
	fresh := srv.IssueToken("secret", "system/*.rs")
	srv.RevokeTokens()
	wantInvalid("revoked", fresh)

	srv.SetPatient("pat-3", nil)
	if r := get(t, srv, srv.URL+"/Patient/pat-3", srv.IssueToken("secret", "system/*.rs")); r.StatusCode != 404 {
		t.Errorf("removed patient: status %d", r.StatusCode)
	}
	r := post(t, srv, srv.URL+"/Patient", nil, nil)
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", r.StatusCode)
	}
	r = do(t, srv, func() *http.Request {
		req, _ := http.NewRequest(http.MethodGet, srv.URL+"/Patient", nil)
		req.SetBasicAuth("secret", "new")
		return req
	}())
	if r.StatusCode != 401 {
		t.Errorf("Basic: status %d", r.StatusCode)
	}
}

func TestIntrospection(t *testing.T) {
	clock := newClock()
	srv := newLaunchServer(t, &smartauthtest.Options{Clock: clock.Now, RefreshLifetime: time.Hour})
	tokens := post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil).members(t)
	access := tokens["access_token"].(string)
	form := func(token any) url.Values { return url.Values{"token": {token.(string)}} }
	asBearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+access) }

	want := object{
		"active": true, "client_id": "public", "scope": tokens["scope"], "token_type": "Bearer",
		"exp": float64(epoch.Unix() + 300), "iat": float64(epoch.Unix()), "patient": "pat-1",
		"iss": srv.Issuer, "sub": "user-1", "fhirUser": srv.URL + "/Practitioner/prac-1",
	}
	for name, change := range map[string]func(*http.Request){"bearer": asBearer, "basic": basic("secret", "s3cret")} {
		r := post(t, srv, srv.IntrospectionURL, form(access), change)
		if diff := cmp.Diff(want, r.members(t)); diff != "" || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	want = object{"active": true, "client_id": "public", "scope": tokens["scope"], "exp": float64(epoch.Unix() + 3600)}
	if diff := cmp.Diff(want, post(t, srv, srv.IntrospectionURL, form(tokens["refresh_token"]), asBearer).members(t)); diff != "" {
		t.Errorf("refresh token (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(object{"active": false}, post(t, srv, srv.IntrospectionURL, form("x"), asBearer).members(t)); diff != "" {
		t.Errorf("unknown token (-want +got):\n%s", diff)
	}
	wantError(t, srv, post(t, srv, srv.IntrospectionURL, form(access), nil), 401, "invalid_client", "no client authentication")
	wantError(t, srv, post(t, srv, srv.IntrospectionURL, with(form(access), "client_id", "public"), nil), 401, "invalid_client", "public client")
	wantError(t, srv, post(t, srv, srv.IntrospectionURL, url.Values{}, asBearer), 400, "invalid_request", "token is missing")
	wantError(t, srv, post(t, srv, srv.IntrospectionURL, with(form(access), "client_secret", "x"), asBearer), 400, "invalid_request", "more than one")
	wantError(t, srv, get(t, srv, srv.IntrospectionURL, access), 405, "invalid_request", "POST")
	srv.RevokeTokens()
	r := post(t, srv, srv.IntrospectionURL, form(access), asBearer)
	wantError(t, srv, r, 401, "invalid_token", "not valid")
	if got := r.Header.Get("WWW-Authenticate"); got != `Bearer error="invalid_token"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
}

func TestAssertionAtOtherEndpoints(t *testing.T) {
	srv := newTokenServer(t, nil)
	for _, aud := range []string{srv.IntrospectionURL, srv.TokenURL} {
		form := assertionForm(assertion(aud, time.Now(), nil, nil))
		form.Set("token", "x")
		if m := post(t, srv, srv.IntrospectionURL, form, nil).members(t); m["active"] != false {
			t.Errorf("aud %s: %v", aud, m)
		}
	}
	form := assertionForm(assertion(srv.RevocationURL, time.Now(), nil, nil))
	form.Set("token", "x")
	wantError(t, srv, post(t, srv, srv.IntrospectionURL, form, nil), 401, "invalid_client", "aud")
}

func TestRevocation(t *testing.T) {
	srv := newLaunchServer(t, nil)
	tokens := post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil).members(t)
	access, refresh := tokens["access_token"].(string), tokens["refresh_token"].(string)
	revoke := func(token string, change ...string) *response {
		return post(t, srv, srv.RevocationURL, with(url.Values{"token": {token}, "client_id": {"public"}}, change...), nil)
	}
	wantError(t, srv, revoke(access, "client_id", ""), 401, "invalid_client", "no client authentication")
	wantError(t, srv, revoke(""), 400, "invalid_request", "token is missing")
	srv.AddClient(smartauthtest.Client{ID: "other"})
	wantError(t, srv, revoke(access, "client_id", "other"), 400, "unauthorized_client", "another client")
	wantError(t, srv, revoke(refresh, "client_id", "other"), 400, "unauthorized_client", "another client")
	if !srv.Active(access) {
		t.Fatal("another client revoked the token")
	}
	for _, token := range []string{"unknown", access, access} {
		if r := revoke(token); r.StatusCode != http.StatusOK || r.body != "" {
			t.Errorf("revoking: status %d, %q", r.StatusCode, r.body)
		}
	}
	if srv.Active(access) {
		t.Error("the revoked access token is active")
	}
	refreshed := post(t, srv, srv.TokenURL, refreshForm(refresh), nil).members(t)
	revoke(refreshed["refresh_token"].(string))
	if srv.Active(refreshed["access_token"].(string)) {
		t.Error("revoking a refresh token leaves its access token active")
	}
	wantError(t, srv, get(t, srv, srv.RevocationURL, ""), 405, "invalid_request", "POST")
}

func TestRevokeGrants(t *testing.T) {
	srv := newLaunchServer(t, nil)
	tokens := post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil).members(t)
	code := authorize(t, srv).Get("code")
	srv.RevokeGrants()
	if srv.Active(tokens["access_token"].(string)) {
		t.Error("the access token is active")
	}
	wantError(t, srv, post(t, srv, srv.TokenURL, refreshForm(tokens["refresh_token"].(string)), nil), 400, "invalid_grant", "revoked")
	wantError(t, srv, post(t, srv, srv.TokenURL, codeForm(code), nil), 400, "invalid_grant", "revoked")
}

func TestDateHeader(t *testing.T) {
	eachServer(t, smartauthtest.Options{Clock: func() time.Time { return epoch }}, func(t *testing.T, srv *smartauthtest.Server) {
		if got := get(t, srv, srv.ConfigurationURL, "").Header.Values("Date"); len(got) != 1 || got[0] != epoch.Format(http.TimeFormat) {
			t.Errorf("Date %q", got)
		}
	})
}
