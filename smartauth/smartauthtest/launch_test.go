package smartauthtest_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func newLaunchServer(t testing.TB, opts *smartauthtest.Options) *smartauthtest.Server {
	srv := smartauthtest.NewUnstarted(opts)
	t.Cleanup(srv.Close)
	srv.AddClient(smartauthtest.Client{ID: "public", RedirectURIs: []string{redirectURI, redirectURI + "?tenant=1"}})
	srv.AddClient(smartauthtest.Client{ID: "secret", Secrets: []string{"s3cret"}, RedirectURIs: []string{redirectURI}})
	return srv
}

// authorizationParams makes a request that the server takes, but for the
// changes; an empty value leaves the parameter out.
func authorizationParams(srv *smartauthtest.Server, changes ...string) url.Values {
	params := url.Values{
		"response_type": {"code"}, "client_id": {"public"}, "redirect_uri": {redirectURI},
		"scope": {"openid fhirUser launch/patient patient/*.rs offline_access"}, "state": {state}, "aud": {srv.URL},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"}, "nonce": {"n-0S6_WzA2Mj"},
	}
	for i := 0; i < len(changes); i += 2 {
		if params.Set(changes[i], changes[i+1]); changes[i+1] == "" {
			params.Del(changes[i])
		}
	}
	return params
}

// authorize returns the parameters that the callback gets.
func authorize(t testing.TB, srv *smartauthtest.Server, changes ...string) url.Values {
	t.Helper()
	callback, err := srv.Authorize(t.Context(), srv.AuthorizeURL+"?"+authorizationParams(srv, changes...).Encode())
	if err != nil {
		t.Fatal(err)
	}
	return callback.Query()
}

func codeForm(code string, changes ...string) url.Values {
	return with(url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"public"}, "redirect_uri": {redirectURI},
		"code": {code}, "code_verifier": {verifier},
	}, changes...)
}

func refreshForm(token string, changes ...string) url.Values {
	return with(url.Values{"grant_type": {"refresh_token"}, "client_id": {"public"}, "refresh_token": {token}}, changes...)
}

func TestStandaloneLaunch(t *testing.T) {
	banner := true
	clock := newClock()
	opts := smartauthtest.Options{Clock: clock.Now, IssParameter: true, Launch: smartauthtest.Launch{
		Encounter: "enc-1", NeedPatientBanner: &banner, Intent: "order", SmartStyleURL: "https://ehr.example.org/style.json",
		Tenant: "t1", FHIRContext: []map[string]any{{"reference": "ImagingStudy/1"}}, Extra: map[string]any{"__vendor": "x"},
	}}
	eachServer(t, opts, func(t *testing.T, srv *smartauthtest.Server) {
		srv.AddClient(smartauthtest.Client{ID: "public", RedirectURIs: []string{redirectURI}})
		callback := authorize(t, srv)
		if callback.Get("state") != state || callback.Get("iss") != srv.Issuer || callback.Has("error") {
			t.Fatalf("callback got %v", callback)
		}
		r := post(t, srv, srv.TokenURL, codeForm(callback.Get("code")), nil)
		access := wantToken(t, r)
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Pragma") != "no-cache" {
			t.Errorf("the token answer may be stored: %v", r.Header)
		}
		members := r.members(t)
		claims := verifyIDToken(t, srv, members["id_token"].(string))
		wantClaims := object{
			"iss": srv.Issuer, "sub": "user-1", "aud": "public", "nonce": "n-0S6_WzA2Mj", "fhirUser": srv.URL + "/Practitioner/prac-1",
			"iat": float64(epoch.Unix()), "exp": float64(epoch.Unix() + 300), "auth_time": float64(epoch.Unix()),
		}
		if diff := cmp.Diff(wantClaims, claims); diff != "" {
			t.Errorf("id_token claims (-want +got):\n%s", diff)
		}
		for _, name := range []string{"access_token", "id_token", "refresh_token"} {
			if members[name] == "" {
				t.Errorf("no %s", name)
			}
			delete(members, name)
		}
		want := object{
			"token_type": "Bearer", "expires_in": 300.0, "scope": "openid fhirUser launch/patient patient/*.rs offline_access",
			"patient": "pat-1", "need_patient_banner": true, "intent": "order", "smart_style_url": "https://ehr.example.org/style.json",
			"tenant": "t1", "fhirContext": []any{object{"reference": "ImagingStudy/1"}}, "__vendor": "x",
		}
		if diff := cmp.Diff(want, members); diff != "" {
			t.Errorf("token answer (-want +got):\n%s", diff)
		}
		if got := get(t, srv, srv.URL+"/Patient/pat-1", access).StatusCode; got != http.StatusOK {
			t.Errorf("patient in context: status %d", got)
		}
		if got := get(t, srv, srv.URL+"/Patient/pat-2", access).StatusCode; got != http.StatusForbidden {
			t.Errorf("another patient: status %d", got)
		}
	})
}

// verifyIDToken checks the signature by the standard library against the
// published set, and returns the claims.
func verifyIDToken(t testing.TB, srv *smartauthtest.Server, token string) (claims object) {
	t.Helper()
	parts := strings.Split(token, ".")
	decode := func(s string) []byte {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var header struct{ Alg, Kid, Typ string }
	if err := json.Unmarshal(decode(parts[0]), &header); err != nil {
		t.Fatal(err)
	}
	if header.Alg != "RS256" || header.Typ != "JWT" {
		t.Errorf("id_token header %+v", header)
	}
	var set struct {
		Keys []struct{ Kty, Kid, Alg, N, E, D string }
	}
	if err := json.Unmarshal([]byte(get(t, srv, srv.JWKSURL, "").body), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		if key.D != "" {
			t.Error("the published set holds a private key")
		}
		if key.Kid != header.Kid {
			continue
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(decode(key.N)), E: int(new(big.Int).SetBytes(decode(key.E)).Int64())}
		digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		if err := rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], decode(parts[2])); err != nil {
			t.Errorf("id_token: %v", err)
		}
		if err := json.Unmarshal(decode(parts[1]), &claims); err != nil {
			t.Fatal(err)
		}
		return claims
	}
	t.Fatalf("kid %q is not in the published set", header.Kid)
	return nil
}

func TestEHRLaunch(t *testing.T) {
	srv := newLaunchServer(t, nil)
	launchURL, err := url.Parse(srv.LaunchURL("https://app.example.org/launch?v=1", smartauthtest.Launch{Patient: "pat-2", Encounter: "enc-7"}))
	if err != nil {
		t.Fatal(err)
	}
	q := launchURL.Query()
	if q.Get("iss") != srv.URL || q.Get("v") != "1" {
		t.Errorf("launch URL %s", launchURL)
	}
	callback := authorize(t, srv, "launch", q.Get("launch"), "scope", "launch patient/*.read")
	members := post(t, srv, srv.TokenURL, codeForm(callback.Get("code")), nil).members(t)
	if members["patient"] != "pat-2" || members["encounter"] != "enc-7" || members["refresh_token"] != nil || members["id_token"] != nil {
		t.Errorf("token answer %v", members)
	}
}

func TestUserOfALaunch(t *testing.T) {
	srv := newLaunchServer(t, &smartauthtest.Options{SigningKey: rsaKey()})
	for _, test := range []struct {
		launch    smartauthtest.Launch
		scope     string
		sub, user any
	}{
		{smartauthtest.Launch{Subject: "s-2", FHIRUser: "Patient/p"}, "launch openid fhirUser", "s-2", srv.URL + "/Patient/p"},
		{smartauthtest.Launch{FHIRUser: "https://users.example.org/Person/1"}, "launch openid fhirUser", "user-1", "https://users.example.org/Person/1"},
		{smartauthtest.Launch{}, "launch openid", "user-1", nil},
	} {
		code := authorize(t, srv, "launch", srv.NewLaunch(test.launch), "scope", test.scope).Get("code")
		members := post(t, srv, srv.TokenURL, codeForm(code), nil).members(t)
		claims := verifyIDToken(t, srv, members["id_token"].(string))
		introspected := post(t, srv, srv.IntrospectionURL, url.Values{"token": {members["access_token"].(string)}}, basic("secret", "s3cret")).members(t)
		for where, got := range map[string]object{"id_token": claims, "introspection": introspected} {
			if got["sub"] != test.sub || got["fhirUser"] != test.user {
				t.Errorf("%s of %+v: sub %v, fhirUser %v", where, test.launch, got["sub"], got["fhirUser"])
			}
		}
	}
}

func TestAuthorizeByPost(t *testing.T) {
	srv := newLaunchServer(t, nil)
	r := post(t, srv, srv.AuthorizeURL, authorizationParams(srv, "redirect_uri", redirectURI+"?tenant=1"), nil)
	location, err := r.Location()
	if err != nil || r.StatusCode != http.StatusSeeOther {
		t.Fatalf("status %d, %v", r.StatusCode, err)
	}
	if q := location.Query(); q.Get("code") == "" || q.Get("state") != state || q.Get("tenant") != "1" {
		t.Errorf("redirected to %s", location)
	}
}

func TestAuthorizeRefusals(t *testing.T) {
	srv := newLaunchServer(t, nil)
	srv.AddClient(smartauthtest.Client{ID: "narrow", RedirectURIs: []string{redirectURI}, Scopes: []string{"patient/Observation.rs"}})
	srv.AddClient(smartauthtest.Client{ID: "backend", Secrets: []string{"x"}, RedirectURIs: []string{redirectURI}, GrantTypes: []string{"client_credentials"}})
	for _, test := range []struct {
		name   string
		change []string
		code   string
	}{
		{"no response_type", []string{"response_type", ""}, "invalid_request"},
		{"token response_type", []string{"response_type", "token"}, "unsupported_response_type"},
		{"no state", []string{"state", ""}, "invalid_request"},
		{"short state", []string{"state", "0123456789abcdefghijk"}, "invalid_request"},
		{"monotone state", []string{"state", strings.Repeat("ab", 20)}, "invalid_request"},
		{"no aud", []string{"aud", ""}, "invalid_request"},
		{"aud with a slash", []string{"aud", srv.URL + "/"}, "invalid_request"},
		{"no challenge", []string{"code_challenge", ""}, "invalid_request"},
		{"padded challenge", []string{"code_challenge", challenge + "="}, "invalid_request"},
		{"plain challenge", []string{"code_challenge_method", "plain"}, "invalid_request"},
		{"no challenge method", []string{"code_challenge_method", ""}, "invalid_request"},
		{"no scope", []string{"scope", ""}, "invalid_scope"},
		{"two spaces in scope", []string{"scope", "openid  fhirUser"}, "invalid_scope"},
		{"system scope", []string{"scope", "system/*.rs"}, "invalid_scope"},
		{"scope not allowed", []string{"client_id", "narrow", "scope", "patient/Patient.rs"}, "invalid_scope"},
		{"grant not allowed", []string{"client_id", "backend"}, "unauthorized_client"},
		{"unknown launch", []string{"launch", "x", "scope", "launch"}, "invalid_request"},
		{"launch without its scope", []string{"launch", srv.NewLaunch(smartauthtest.Launch{})}, "invalid_request"},
		{"launch scope alone", []string{"scope", "launch patient/*.rs"}, "invalid_request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			q := authorize(t, srv, test.change...)
			if q.Get("error") != test.code || q.Has("code") || q.Get("error_description") == "" {
				t.Errorf("callback got %v, want %s", q, test.code)
			}
			if params := authorizationParams(srv, test.change...); q.Get("state") != params.Get("state") {
				t.Errorf("state %q came back as %q", params.Get("state"), q.Get("state"))
			}
		})
	}
	for _, test := range []struct{ name, query string }{
		{"no client", authorizationParams(srv, "client_id", "").Encode()},
		{"unknown client", authorizationParams(srv, "client_id", "nobody").Encode()},
		{"no redirect_uri", authorizationParams(srv, "redirect_uri", "").Encode()},
		{"another redirect_uri", authorizationParams(srv, "redirect_uri", redirectURI+"/").Encode()},
		{"state twice", authorizationParams(srv).Encode() + "&state=" + state},
		{"malformed", authorizationParams(srv).Encode() + "&a=%zz"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := get(t, srv, srv.AuthorizeURL+"?"+test.query, "")
			if r.StatusCode != http.StatusBadRequest || r.Header.Get("Location") != "" {
				t.Errorf("status %d, Location %q", r.StatusCode, r.Header.Get("Location"))
			}
			if _, err := srv.Authorize(t.Context(), srv.AuthorizeURL+"?"+test.query); err == nil {
				t.Error("Authorize returned no error")
			}
		})
	}
	t.Run("query and body", func(t *testing.T) {
		r := post(t, srv, srv.AuthorizeURL+"?client_id=public", authorizationParams(srv), nil)
		if r.StatusCode != http.StatusBadRequest {
			t.Errorf("status %d", r.StatusCode)
		}
	})
	t.Run("method", func(t *testing.T) {
		req, _ := http.NewRequest(http.MethodPut, srv.AuthorizeURL, nil)
		if r := do(t, srv, req); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
			t.Errorf("status %d", r.StatusCode)
		}
	})
}

func TestCodeRefusals(t *testing.T) {
	for _, test := range []struct {
		name         string
		change       []string
		code, reason string
	}{
		{"another code", []string{"code", "x"}, "invalid_grant", "unknown code"},
		{"no code", []string{"code", ""}, "invalid_request", "code is missing"},
		{"no redirect_uri", []string{"redirect_uri", ""}, "invalid_request", "redirect_uri is missing"},
		{"another redirect_uri", []string{"redirect_uri", redirectURI + "?tenant=1"}, "invalid_grant", "redirect_uri"},
		{"no verifier", []string{"code_verifier", ""}, "invalid_request", "code_verifier is missing"},
		{"another verifier", []string{"code_verifier", strings.Repeat("a", 43)}, "invalid_grant", "does not match"},
		{"another client", []string{"client_id", "other"}, "invalid_grant", "another client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := newLaunchServer(t, nil)
			srv.AddClient(smartauthtest.Client{ID: "other"})
			code := authorize(t, srv).Get("code")
			wantError(t, srv, post(t, srv, srv.TokenURL, codeForm(code, test.change...), nil), http.StatusBadRequest, test.code, test.reason)
		})
	}
	t.Run("expired", func(t *testing.T) {
		clock := newClock()
		srv := newLaunchServer(t, &smartauthtest.Options{Clock: clock.Now})
		first, second := authorize(t, srv).Get("code"), authorize(t, srv).Get("code")
		clock.advance(time.Minute - time.Second)
		wantToken(t, post(t, srv, srv.TokenURL, codeForm(first), nil))
		clock.advance(time.Second)
		wantError(t, srv, post(t, srv, srv.TokenURL, codeForm(second), nil), http.StatusBadRequest, "invalid_grant", "expired")
	})
	t.Run("a wrong verifier uses the code up", func(t *testing.T) {
		srv := newLaunchServer(t, nil)
		code := authorize(t, srv).Get("code")
		post(t, srv, srv.TokenURL, codeForm(code, "code_verifier", strings.Repeat("a", 43)), nil)
		wantError(t, srv, post(t, srv, srv.TokenURL, codeForm(code), nil), http.StatusBadRequest, "invalid_grant", "used before")
	})
}

func TestCodeReuseRevokesItsTokens(t *testing.T) {
	srv := newLaunchServer(t, nil)
	code := authorize(t, srv).Get("code")
	r := post(t, srv, srv.TokenURL, codeForm(code), nil)
	access := wantToken(t, r)
	wantError(t, srv, post(t, srv, srv.TokenURL, codeForm(code), nil), http.StatusBadRequest, "invalid_grant", "used before")
	if srv.Active(access) {
		t.Error("the access token lives on")
	}
	refresh := r.members(t)["refresh_token"].(string)
	wantError(t, srv, post(t, srv, srv.TokenURL, refreshForm(refresh), nil), http.StatusBadRequest, "invalid_grant", "revoked")
}

func TestRefresh(t *testing.T) {
	srv := newLaunchServer(t, nil)
	r := post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil)
	first := r.members(t)["refresh_token"].(string)

	r = post(t, srv, srv.TokenURL, refreshForm(first, "scope", "patient/Patient.rs openid"), nil)
	access := wantToken(t, r)
	members := r.members(t)
	if members["scope"] != "patient/Patient.rs openid" || members["patient"] != "pat-1" {
		t.Errorf("token answer %v", members)
	}
	if claims := verifyIDToken(t, srv, members["id_token"].(string)); claims["nonce"] != nil || claims["sub"] != "user-1" {
		t.Errorf("id_token claims %v", claims)
	}
	second := members["refresh_token"].(string)
	if second == first {
		t.Error("the refresh token was not rotated")
	}

	// What is refused for its scope is not used up, and the family keeps its scopes.
	wantError(t, srv, post(t, srv, srv.TokenURL, refreshForm(second, "scope", "user/*.rs"), nil), http.StatusBadRequest, "invalid_scope", "beyond")
	r = post(t, srv, srv.TokenURL, refreshForm(second), nil)
	third := r.members(t)["refresh_token"].(string)
	if got := r.members(t)["scope"]; got != "openid fhirUser launch/patient patient/*.rs offline_access" {
		t.Errorf("scope %q", got)
	}

	wantError(t, srv, post(t, srv, srv.TokenURL, refreshForm(first), nil), http.StatusBadRequest, "invalid_grant", "used before")
	wantError(t, srv, post(t, srv, srv.TokenURL, refreshForm(third), nil), http.StatusBadRequest, "invalid_grant", "revoked")
	if srv.Active(access) {
		t.Error("the family's access token lives on")
	}
}

func TestRefreshRefusals(t *testing.T) {
	clock := newClock()
	srv := newLaunchServer(t, &smartauthtest.Options{Clock: clock.Now, RefreshLifetime: time.Hour})
	srv.AddClient(smartauthtest.Client{ID: "other"})
	token := post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil).members(t)["refresh_token"].(string)
	refuse := func(form url.Values, code, reason string) {
		t.Helper()
		wantError(t, srv, post(t, srv, srv.TokenURL, form, nil), http.StatusBadRequest, code, reason)
	}
	refuse(refreshForm(""), "invalid_request", "refresh_token is missing")
	refuse(refreshForm("x"), "invalid_grant", "unknown")
	refuse(refreshForm(token, "client_id", "other"), "invalid_grant", "another client")
	refuse(refreshForm(token, "scope", " openid"), "invalid_scope", "malformed")
	clock.advance(time.Hour)
	refuse(refreshForm(token), "invalid_grant", "expired")
}

func TestKeepRefreshTokens(t *testing.T) {
	srv := newLaunchServer(t, &smartauthtest.Options{KeepRefreshTokens: true})
	token := post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil).members(t)["refresh_token"].(string)
	for range 2 {
		r := post(t, srv, srv.TokenURL, refreshForm(token), nil)
		wantToken(t, r)
		if next, ok := r.members(t)["refresh_token"]; ok {
			t.Errorf("a new refresh token %v", next)
		}
	}
}

func TestConfidentialCodeExchange(t *testing.T) {
	srv := newLaunchServer(t, nil)
	code := authorize(t, srv, "client_id", "secret").Get("code")
	form := codeForm(code)
	wantError(t, srv, post(t, srv, srv.TokenURL, with(form, "client_id", "secret"), nil), http.StatusUnauthorized, "invalid_client", "must authenticate")
	form.Del("client_id")
	wantError(t, srv, post(t, srv, srv.TokenURL, form, basic("secret", "wrong")), http.StatusUnauthorized, "invalid_client", "wrong client secret")
	wantToken(t, post(t, srv, srv.TokenURL, form, basic("secret", "s3cret")))
}

func TestHooks(t *testing.T) {
	srv := newLaunchServer(t, &smartauthtest.Options{
		ModifyToken:    func(m map[string]any) { m["expires_in"] = "3600"; delete(m, "scope") },
		ModifyIDToken:  func(c map[string]any) { c["nonce"] = "another" },
		ModifyCallback: func(q url.Values) { q.Set("iss", "https://other.example.org") },
	})
	callback := authorize(t, srv)
	if callback.Get("iss") != "https://other.example.org" {
		t.Errorf("callback %v", callback)
	}
	members := post(t, srv, srv.TokenURL, codeForm(callback.Get("code")), nil).members(t)
	if members["expires_in"] != "3600" || members["scope"] != nil {
		t.Errorf("token answer %v", members)
	}
	if claims := verifyIDToken(t, srv, members["id_token"].(string)); claims["nonce"] != "another" {
		t.Errorf("claims %v", claims)
	}
}

func TestRotateSigningKey(t *testing.T) {
	srv := newLaunchServer(t, &smartauthtest.Options{SigningKey: rsaKey()})
	idToken := func() string {
		return post(t, srv, srv.TokenURL, codeForm(authorize(t, srv).Get("code")), nil).members(t)["id_token"].(string)
	}
	before := idToken()
	if err := srv.RotateSigningKey(); err != nil {
		t.Fatal(err)
	}
	after := idToken()
	if strings.Split(before, ".")[0] == strings.Split(after, ".")[0] {
		t.Error("the kid is the same")
	}
	verifyIDToken(t, srv, before)
	verifyIDToken(t, srv, after)
}
