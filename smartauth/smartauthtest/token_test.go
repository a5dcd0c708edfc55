package smartauthtest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func newTokenServer(t testing.TB, opts *smartauthtest.Options) *smartauthtest.Server {
	srv := smartauthtest.NewUnstarted(opts)
	t.Cleanup(srv.Close)
	addTokenClients(srv)
	return srv
}

func addTokenClients(srv *smartauthtest.Server) {
	srv.AddClient(smartauthtest.Client{ID: "secret", Secrets: []string{"old", "new"}})
	srv.AddClient(smartauthtest.Client{ID: "public"})
	srv.AddClient(smartauthtest.Client{ID: "jwt", JWKS: jwks(jwk(ecKey(), "k1"), jwk(rsaKey(), "k2"))})
	srv.AddClient(smartauthtest.Client{ID: "post", Secrets: []string{"p"}, AuthMethods: []string{smartauthtest.AuthClientSecretPost}})
}

func TestClientCredentials(t *testing.T) {
	eachServer(t, smartauthtest.Options{}, func(t *testing.T, srv *smartauthtest.Server) {
		addTokenClients(srv)
		es := assertion(srv.TokenURL, time.Now(), nil, nil)
		rs := sign(rsaKey(), marshal(object{"alg": "RS384", "kid": "k2", "typ": "JWT"}), marshal(object{
			"iss": "jwt", "sub": "jwt", "aud": srv.TokenURL, "exp": time.Now().Unix() + 60, "jti": "1",
		}))
		for _, test := range []struct {
			name, client, method string
			form                 url.Values
			change               func(*http.Request)
		}{
			{"basic", "secret", smartauthtest.AuthClientSecretBasic, system(), basic("secret", "old")},
			{"basic, other secret", "secret", smartauthtest.AuthClientSecretBasic, system(), basic("secret", "new")},
			{"post", "secret", smartauthtest.AuthClientSecretPost, with(system(), "client_id", "secret", "client_secret", "new"), nil},
			{"ES384", "jwt", smartauthtest.AuthPrivateKeyJWT, assertionForm(es), nil},
			{"RS384", "jwt", smartauthtest.AuthPrivateKeyJWT, assertionForm(rs), nil},
			{"charset", "secret", smartauthtest.AuthClientSecretBasic, system(), func(r *http.Request) {
				r.SetBasicAuth("secret", "new")
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				srv.ResetRequests()
				r := post(t, srv, srv.TokenURL, test.form, test.change)
				token := wantToken(t, r)
				if m := r.members(t); m["expires_in"] != 300.0 || m["scope"] != "system/*.rs" || m["refresh_token"] != nil || m["patient"] != nil {
					t.Errorf("token answer %v", m)
				}
				if got := get(t, srv, srv.URL+"/Patient/pat-2", token).StatusCode; got != http.StatusOK {
					t.Errorf("FHIR status %d", got)
				}
				logged := srv.RequestsTo(smartauthtest.EndpointToken)
				if len(logged) != 1 || logged[0].ClientID != test.client || logged[0].AuthMethod != test.method || logged[0].Status != http.StatusOK {
					t.Errorf("logged %+v", logged)
				}
			})
		}
	})
}

func TestTokenRequestRefusals(t *testing.T) {
	srv := newTokenServer(t, nil)
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	good := "Basic " + base64.StdEncoding.EncodeToString([]byte("secret:new"))
	jwt := func() url.Values { return assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)) }
	without := func(form url.Values, name string) url.Values { form.Del(name); return form }
	for _, test := range []struct {
		name, query  string
		form         url.Values
		change       func(*http.Request)
		status       int
		code, reason string
	}{
		{"JSON", "", system(), header("Content-Type", "application/json"), 400, "invalid_request", "Content-Type"},
		{"no content type", "", system(), header("Content-Type"), 400, "invalid_request", "Content-Type"},
		{"charset", "", system(), header("Content-Type", "application/x-www-form-urlencoded; charset=latin1"), 400, "invalid_request", "Content-Type"},
		{"secret in the query", "?client_secret=new", with(system(), "client_id", "secret"), nil, 400, "invalid_request", "query"},
		{"client_id in the query", "?client_id=public", system(), nil, 400, "invalid_request", "query"},
		{"parameter twice", "", url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs", "system/*.rs"}}, header("Authorization", good), 400, "invalid_request", "twice"},
		{"nobody", "", system(), nil, 401, "invalid_client", "no client authentication"},
		{"empty parameters", "", with(system(), "client_id", ""), nil, 401, "invalid_client", "no client authentication"},
		{"unknown client", "", with(system(), "client_id", "nobody"), nil, 401, "invalid_client", "unknown client"},
		{"basic and post", "", with(system(), "client_id", "secret", "client_secret", "new"), header("Authorization", good), 400, "invalid_request", "more than one"},
		{"basic and assertion", "", jwt(), header("Authorization", good), 400, "invalid_request", "more than one"},
		{"post and assertion", "", with(jwt(), "client_id", "secret", "client_secret", "new"), nil, 400, "invalid_request", "more than one"},
		{"two headers", "", system(), header("Authorization", good, good), 400, "invalid_request", "more than one"},
		{"bearer", "", system(), header("Authorization", "Bearer x"), 401, "invalid_client", "no Basic"},
		{"basic without colon", "", system(), header("Authorization", "Basic c2VjcmV0"), 401, "invalid_client", "colon"},
		{"basic not base64", "", system(), header("Authorization", "Basic !"), 401, "invalid_client", "no Basic"},
		{"basic with client_id", "", with(system(), "client_id", "secret"), header("Authorization", good), 400, "invalid_request", "client_id is in the body"},
		{"basic raw", "", system(), basic("secret", "a:b"), 401, "invalid_client", "not form-encoded"},
		{"wrong secret", "", system(), basic("secret", "guess"), 401, "invalid_client", "wrong client secret"},
		{"secret of a public client", "", system(), basic("public", "x"), 401, "invalid_client", "may not use"},
		{"basic where only post may be", "", system(), basic("post", "p"), 401, "invalid_client", "may not use"},
		{"post, unknown client", "", with(system(), "client_secret", "new"), nil, 401, "invalid_client", "unknown client"},
		{"assertion with client_id", "", with(jwt(), "client_id", "jwt"), nil, 400, "invalid_request", "client_id is in the body"},
		{"assertion type missing", "", without(jwt(), "client_assertion_type"), nil, 401, "invalid_client", "client_assertion_type"},
		{"assertion type saml", "", with(jwt(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), nil, 401, "invalid_client", "client_assertion_type"},
		{"assertion missing", "", without(jwt(), "client_assertion"), nil, 401, "invalid_client", "no compact JWS"},
		{"confidential without credentials", "", with(system(), "client_id", "secret"), nil, 401, "invalid_client", "must authenticate"},
		{"public client_credentials", "", with(system(), "client_id", "public"), nil, 400, "unauthorized_client", "confidential"},
		{"no grant_type", "", url.Values{"scope": {"system/*.rs"}}, header("Authorization", good), 400, "invalid_request", "grant_type"},
		{"password", "", with(system(), "grant_type", "password"), header("Authorization", good), 400, "unsupported_grant_type", "grant_type"},
		{"no scope", "", url.Values{"grant_type": {"client_credentials"}}, header("Authorization", good), 400, "invalid_scope", "scope"},
		{"malformed scope", "", with(system(), "scope", "system/*.rs  x"), header("Authorization", good), 400, "invalid_scope", "malformed"},
		{"patient scope", "", with(system(), "scope", "patient/*.rs openid"), header("Authorization", good), 400, "invalid_scope", "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, srv, post(t, srv, srv.TokenURL+test.query, test.form, test.change), test.status, test.code, test.reason)
		})
	}
	t.Run("GET", func(t *testing.T) {
		r := get(t, srv, srv.TokenURL, "")
		wantError(t, srv, r, http.StatusMethodNotAllowed, "invalid_request", "POST")
		if r.Header.Get("Allow") != "POST" {
			t.Errorf("Allow %q", r.Header.Get("Allow"))
		}
	})
	t.Run("malformed body", func(t *testing.T) {
		r := do(t, srv, newPost(t, srv.TokenURL, "grant_type=%zz", basic("secret", "new")))
		wantError(t, srv, r, 400, "invalid_request", "malformed")
	})
	t.Run("huge body", func(t *testing.T) {
		r := do(t, srv, newPost(t, srv.TokenURL, "a="+strings.Repeat("a", 2<<20), basic("secret", "new")))
		wantError(t, srv, r, 400, "invalid_request", "body")
	})
}

func TestInvalidClientStatus(t *testing.T) {
	for _, test := range []struct {
		status, wantBasic, wantPost int
	}{{0, 401, 401}, {400, 401, 400}} {
		srv := newTokenServer(t, &smartauthtest.Options{InvalidClientStatus: test.status})
		r := post(t, srv, srv.TokenURL, system(), basic("secret", "x"))
		wantError(t, srv, r, test.wantBasic, "invalid_client", "")
		if got := r.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic ") {
			t.Errorf("WWW-Authenticate %q", got)
		}
		wantError(t, srv, post(t, srv, srv.TokenURL, with(system(), "client_id", "secret", "client_secret", "x"), nil), test.wantPost, "invalid_client", "")
	}
}

func TestAssertionRefusals(t *testing.T) {
	const jku = "https://app.example.org/jwks.json"
	now := epoch
	srv := smartauthtest.NewUnstarted(&smartauthtest.Options{Clock: func() time.Time { return now }})
	defer srv.Close()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jwk(ecKey(), "k1")
	srv.AddClient(smartauthtest.Client{ID: "jwt", JWKSURL: jku, JWKS: jwks(key,
		jwk(rsaKey(), "k1"), // same kid, another kty: not ambiguous
		jwk(ecKey(), "twice"), jwk(ecKey(), "twice"),
		jwk(ecKey(), "no-alg", object{"alg": nil}),
		jwk(ecKey(), "other-alg", object{"alg": "ES256"}),
		jwk(ecKey(), "enc", object{"use": "enc"}),
		jwk(ecKey(), "sign", object{"key_ops": []string{"sign"}}),
		jwk(ecKey(), "private", object{"d": b64(make([]byte, 48))}),
		jwk(ecKey(), "broken", object{"x": "AAAA"}),
		jwk(p256, "p256"),
		jwk(rsaKey(), "rsa-only"),
	)})
	srv.AddClient(smartauthtest.Client{ID: "secret", Secrets: []string{"s"}})
	srv.AddClient(smartauthtest.Client{ID: "bad-set", JWKS: `{"keys":[],"keys":[]}`})
	srv.AddClient(smartauthtest.Client{ID: "no-set", JWKS: `{"keys":null}`})
	at := func(seconds int64) int64 { return now.Unix() + seconds }
	for _, test := range []struct {
		name           string
		header, claims object
		reason         string // empty: accepted
	}{
		{"as it should be", nil, nil, ""},
		{"jku", object{"jku": jku}, nil, ""},
		{"no iat", nil, object{"iat": nil}, ""},
		{"nbf", nil, object{"nbf": at(0)}, ""},
		{"clock ahead within the leeway", nil, object{"iat": at(5), "nbf": at(5)}, ""},
		{"clock behind within the leeway", nil, object{"exp": at(-4)}, ""},
		{"exp in 5 minutes", nil, object{"exp": at(300)}, ""},
		{"fractions", nil, object{"exp": float64(at(100)) + 0.5}, ""},

		{"no typ", object{"typ": nil}, nil, "typ"},
		{"typ jwt", object{"typ": "jwt"}, nil, "typ"},
		{"typ of rfc7523bis", object{"typ": "client-authentication+jwt"}, nil, "typ"},
		{"no alg", object{"alg": nil}, nil, "alg"},
		{"alg none", object{"alg": "none"}, nil, "alg"},
		{"alg RS256", object{"alg": "RS256"}, nil, "alg"},
		{"alg HS384", object{"alg": "HS384"}, nil, "alg"},
		{"no kid", object{"kid": nil}, nil, "kid is missing"},
		{"empty kid", object{"kid": ""}, nil, "kid is missing"},
		{"kid a number", object{"kid": 1}, nil, "kid is missing"},
		{"unknown kid", object{"kid": "k9"}, nil, "has this kid"},
		{"crit", object{"crit": []string{"exp"}}, nil, "crit"},
		{"another jku", object{"jku": jku + "?"}, nil, "jku"},
		{"jku null", object{"jku": []string{jku}}, nil, "jku"},
		{"two keys", object{"kid": "twice"}, nil, "several keys"},
		{"key without alg", object{"kid": "no-alg"}, nil, "has no alg"},
		{"key for another alg", object{"kid": "other-alg"}, nil, "another alg"},
		{"key for encryption", object{"kid": "enc"}, nil, "use"},
		{"key_ops without verify", object{"kid": "sign"}, nil, "key_ops"},
		{"private key in the set", object{"kid": "private"}, nil, "private member"},
		{"broken key", object{"kid": "broken"}, nil, "no valid JWK"},
		{"P-256", object{"kid": "p256"}, nil, "curve"},
		{"kty does not fit", object{"kid": "rsa-only"}, nil, "kty"},
		{"another key's alg", object{"alg": "RS384"}, nil, "signature"},

		{"no iss", nil, object{"iss": nil}, "iss"},
		{"unknown iss", nil, object{"iss": "x", "sub": "x"}, "no registered client"},
		{"client with a secret", nil, object{"iss": "secret", "sub": "secret"}, "may not use"},
		{"malformed set", nil, object{"iss": "bad-set", "sub": "bad-set"}, "malformed"},
		{"set without keys", nil, object{"iss": "no-set", "sub": "no-set"}, "no array"},
		{"no sub", nil, object{"sub": nil}, "sub"},
		{"another sub", nil, object{"sub": "secret"}, "sub"},
		{"no aud", nil, object{"aud": nil}, "aud"},
		{"aud an array", nil, object{"aud": []string{srv.TokenURL}}, "aud is not a string"},
		{"aud with a slash", nil, object{"aud": srv.TokenURL + "/"}, "aud is not"},
		{"aud the issuer", nil, object{"aud": srv.Issuer}, "aud is not"},
		{"aud by http", nil, object{"aud": strings.Replace(srv.TokenURL, "https", "http", 1)}, "aud is not"},
		{"no exp", nil, object{"exp": nil}, "exp is missing"},
		{"exp a string", nil, object{"exp": "1767225900"}, "exp is missing"},
		{"exp over 5 minutes", nil, object{"exp": at(301)}, "ahead"},
		{"exp huge", nil, object{"exp": 1e300}, "exp is missing"},
		{"exp past", nil, object{"exp": at(-5)}, "past"},
		{"iat in the future", nil, object{"iat": at(6)}, "iat is in the future"},
		{"iat a string", nil, object{"iat": "0"}, "iat is no number"},
		{"nbf in the future", nil, object{"nbf": at(6)}, "nbf is in the future"},
		{"no jti", nil, object{"jti": nil}, "jti"},
		{"empty jti", nil, object{"jti": ""}, "jti"},
		{"jti a number", nil, object{"jti": 7}, "jti"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, now, test.header, test.claims)), nil)
			if test.reason == "" {
				wantToken(t, r)
				return
			}
			wantError(t, srv, r, http.StatusUnauthorized, "invalid_client", test.reason)
		})
	}

	header := `{"alg":"ES384","kid":"k1","typ":"JWT"}`
	claims := func(jti string) string {
		return marshal(object{"iss": "jwt", "sub": "jwt", "aud": srv.TokenURL, "exp": at(60), "jti": jti})
	}
	good := strings.Split(sign(ecKey(), header, claims("a")), ".")
	for _, test := range []struct{ name, jwt, reason string }{
		{"bits after the header's last byte", signInput(ecKey(), strings.TrimSuffix(good[0], "0")+"1."+b64([]byte(claims("e")))), "base64url"},
		{"header member twice", sign(ecKey(), `{"alg":"ES384","kid":"k1","kid":"k1","typ":"JWT"}`, claims("b")), "twice"},
		{"claim twice", sign(ecKey(), header, `{"iss":"jwt","iss":"jwt"}`), "twice"},
		{"text after the claims", sign(ecKey(), header, claims("c")+"{}"), "after"},
		{"claims no object", sign(ecKey(), header, `[]`), "not a JSON object"},
		{"claims truncated", sign(ecKey(), header, `{"iss":"jwt"`), "malformed"},
		{"two segments", good[0] + "." + good[1], "compact"},
		{"four segments", strings.Join(good, ".") + ".x", "compact"},
		{"padded signature", strings.Join(good, ".") + "=", "base64url"},
		{"no signature", good[0] + "." + good[1] + ".", "signature"},
		{"header not base64url", "!" + strings.Join(good, "."), "base64url"},
		{"line break", good[0] + "." + good[1] + "\n." + good[2], "base64url"},
		{"other claims", good[0] + "." + b64([]byte(claims("d"))) + "." + good[2], "does not verify"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantError(t, srv, post(t, srv, srv.TokenURL, assertionForm(test.jwt), nil), http.StatusUnauthorized, "invalid_client", test.reason)
		})
	}
	t.Run("its claims were good", func(t *testing.T) {
		wantToken(t, post(t, srv, srv.TokenURL, assertionForm(strings.Join(good, ".")), nil))
	})
}

func TestReplay(t *testing.T) {
	clock := newClock()
	srv := newTokenServer(t, &smartauthtest.Options{Clock: clock.Now})
	srv.AddClient(smartauthtest.Client{ID: "jwt2", JWKS: jwks(jwk(ecKey(), "k1"))})
	send := func(iss string) *response {
		return post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, clock.Now(), nil, object{"iss": iss, "sub": iss, "jti": "same"})), nil)
	}
	wantToken(t, send("jwt"))
	wantToken(t, send("jwt2")) // a jti belongs to its issuer
	clock.advance(240 * time.Second)
	wantError(t, srv, send("jwt"), http.StatusUnauthorized, "invalid_client", "jti was used before")
	clock.advance(5 * time.Second) // the first could not be sent again any more
	wantToken(t, send("jwt"))
}

func TestAssertionOptions(t *testing.T) {
	t.Run("audience", func(t *testing.T) {
		srv := newTokenServer(t, &smartauthtest.Options{Audience: "http://inside.example.org/token"})
		wantToken(t, post(t, srv, srv.TokenURL, assertionForm(assertion("http://inside.example.org/token", time.Now(), nil, nil)), nil))
		wantError(t, srv, post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil), 401, "invalid_client", "aud")
	})
	t.Run("posted to", func(t *testing.T) {
		srv := newTokenServer(t, nil)
		target := strings.Replace(srv.TokenURL, "ehr.example.test", "gateway.example.test:8443", 1) + "?tenant=a%20b"
		wantToken(t, post(t, srv, target, assertionForm(assertion(target, time.Now(), nil, nil)), nil))
		wantError(t, srv, post(t, srv, target, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil), 401, "invalid_client", "aud")
	})
	t.Run("no leeway", func(t *testing.T) {
		srv := newTokenServer(t, &smartauthtest.Options{Leeway: -1, Clock: func() time.Time { return epoch }})
		wantError(t, srv, post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, epoch, nil, object{"iat": epoch.Unix() + 1})), nil), 401, "invalid_client", "iat")
	})
	t.Run("algorithms and lifetime", func(t *testing.T) {
		srv := newTokenServer(t, &smartauthtest.Options{Algorithms: []string{"RS384"}, MaxAssertionLifetime: time.Minute})
		wantError(t, srv, post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil), 401, "invalid_client", "alg")
		srv = newTokenServer(t, &smartauthtest.Options{MaxAssertionLifetime: time.Minute})
		wantError(t, srv, post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil), 401, "invalid_client", "ahead")
	})
}

func TestCredentialsChange(t *testing.T) {
	srv := newTokenServer(t, nil)
	srv.SetSecrets("secret", "third")
	wantError(t, srv, post(t, srv, srv.TokenURL, system(), basic("secret", "new")), 401, "invalid_client", "wrong client secret")
	wantToken(t, post(t, srv, srv.TokenURL, system(), basic("secret", "third")))

	srv.SetSecrets("secret")
	wantError(t, srv, post(t, srv, srv.TokenURL, with(system(), "client_id", "secret"), nil), 401, "invalid_client", "must authenticate")

	send := func() *response {
		return post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil)), nil)
	}
	wantToken(t, send())
	srv.SetJWKS("jwt", jwks(jwk(ecKey(), "k2")))
	wantError(t, srv, send(), 401, "invalid_client", "kid")
	srv.SetJWKS("jwt", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ecKey().Public(), KeyID: "k1", Algorithm: "ES384", Use: "sig"}}})
	wantToken(t, send())

	srv.RemoveClient("jwt")
	wantError(t, srv, send(), 401, "invalid_client", "no registered client")
	for name, call := range map[string]func(){
		"unknown client": func() { srv.SetSecrets("nobody", "x") },
		"no ID":          func() { srv.AddClient(smartauthtest.Client{}) },
		"no JSON":        func() { srv.AddClient(smartauthtest.Client{ID: "x", JWKS: func() {}}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			call()
		}()
	}
}

func TestScopesGranted(t *testing.T) {
	srv := newTokenServer(t, nil)
	srv.AddClient(smartauthtest.Client{ID: "limited", Secrets: []string{"s"}, Scopes: []string{"system/Patient.rs", "system/Observation.cruds", "vendor/all"}})
	for _, test := range []struct{ asked, granted string }{
		{"system/Patient.rs", "system/Patient.rs"},
		{"system/Patient.read", "system/Patient.read"},
		{"system/*.rs", "system/Patient.rs system/Observation.rs"},
		{"system/Patient.cruds user/*.rs", "system/Patient.rs"},
		{"system/Observation.rs?category=lab vendor/all vendor/none", "system/Observation.rs?category=lab vendor/all"},
	} {
		t.Run(test.asked, func(t *testing.T) {
			r := post(t, srv, srv.TokenURL, with(system(), "scope", test.asked), basic("limited", "s"))
			if got := r.members(t)["scope"]; got != test.granted {
				t.Errorf("granted %q, want %q", got, test.granted)
			}
		})
	}
	srv.AddClient(smartauthtest.Client{ID: "no-backend", Secrets: []string{"s"}, GrantTypes: []string{"authorization_code"}})
	wantError(t, srv, post(t, srv, srv.TokenURL, system(), basic("no-backend", "s")), 400, "unauthorized_client", "client_credentials")
}
