package smartauth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// tryLogin is login that may fail.
func tryLogin(t *testing.T, srv *smartauthtest.Server, client *smartauth.Client) (*smartauth.Token, error) {
	t.Helper()
	launch := startLaunch(t, client, nil)
	return client.Exchange(t.Context(), launch, callbackOf(t, srv, launch))
}

func TestIDTokenClaims(t *testing.T) {
	const bad, good = false, true
	accessHash := func(token string) string {
		sum := sha256.Sum256([]byte(token))
		return base64.RawURLEncoding.EncodeToString(sum[:16])
	}
	now := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, test := range map[string]struct {
		change func(claims map[string]any)
		good   bool
		want   error // besides ErrIDToken
	}{
		"as it should be":       {func(map[string]any) {}, good, nil},
		"iss another":           {func(c map[string]any) { c["iss"] = "https://evil.example.test" }, bad, smartauth.ErrIssuerMismatch},
		"iss with a slash more": {func(c map[string]any) { c["iss"] = c["iss"].(string) + "/" }, bad, smartauth.ErrIssuerMismatch},
		"no iss":                {func(c map[string]any) { delete(c, "iss") }, bad, smartauth.ErrIssuerMismatch},
		"no sub":                {func(c map[string]any) { delete(c, "sub") }, bad, nil},
		"aud another":           {func(c map[string]any) { c["aud"] = "other-app" }, bad, nil},
		"no aud":                {func(c map[string]any) { delete(c, "aud") }, bad, nil},
		"aud in a list":         {func(c map[string]any) { c["aud"] = []string{"web-app"} }, good, nil},
		"two aud, no azp":       {func(c map[string]any) { c["aud"] = []string{"web-app", "x"} }, bad, nil},
		"two aud, azp":          {func(c map[string]any) { c["aud"] = []string{"x", "web-app"}; c["azp"] = "web-app" }, good, nil},
		"two aud, other azp":    {func(c map[string]any) { c["aud"] = []string{"x", "web-app"}; c["azp"] = "x" }, bad, nil},
		"one aud, other azp":    {func(c map[string]any) { c["azp"] = "x" }, bad, nil},
		"azp no string":         {func(c map[string]any) { c["azp"] = []string{"web-app"} }, bad, nil},
		"exp passed":            {func(c map[string]any) { c["exp"] = now(-2 * time.Minute) }, bad, nil},
		"exp within the skew":   {func(c map[string]any) { c["exp"] = now(-30 * time.Second) }, good, nil},
		"no exp":                {func(c map[string]any) { delete(c, "exp") }, bad, nil},
		"iat slightly ahead":    {func(c map[string]any) { c["iat"] = now(4 * time.Minute) }, good, nil},
		"iat far ahead":         {func(c map[string]any) { c["iat"] = now(6 * time.Minute) }, bad, nil},
		"no iat":                {func(c map[string]any) { delete(c, "iat") }, bad, nil},
		"nbf far ahead":         {func(c map[string]any) { c["nbf"] = now(time.Hour) }, bad, nil},
		"nonce another":         {func(c map[string]any) { c["nonce"] = "x" }, bad, nil},
		"no nonce":              {func(c map[string]any) { delete(c, "nonce") }, bad, nil},
		"name in another case":  {func(c map[string]any) { c["Nonce"] = c["nonce"] }, bad, nil},
		"claim of a wrong type": {func(c map[string]any) { c["sub"] = 7 }, bad, nil},
		"at_hash of another":    {func(c map[string]any) { c["at_hash"] = accessHash("x") }, bad, nil},
		"no fhirUser":           {func(c map[string]any) { delete(c, "fhirUser") }, good, nil},
		"fhirUser elsewhere":    {func(c map[string]any) { c["fhirUser"] = "https://evil.example.test/Patient/1" }, bad, nil},
		"fhirUser null":         {func(c map[string]any) { c["fhirUser"] = nil }, bad, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyIDToken: test.change})
				token, err := tryLogin(t, srv, newClient(t, srv, webApp))
				if test.good {
					if err != nil {
						t.Fatal(err)
					}
					if id := token.Identity(); id.Issuer != srv.Issuer || id.Subject != "user-1" || id.Expiry.IsZero() || id.IssuedAt.IsZero() {
						t.Errorf("identity %+v", id)
					}
					return
				}
				if token != nil || !errors.Is(err, smartauth.ErrIDToken) || test.want != nil && !errors.Is(err, test.want) {
					t.Fatalf("got %v, %v; want ErrIDToken, %v", token, err, test.want)
				}
				if strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), "other-app") {
					t.Errorf("the error quotes the id token: %v", err)
				}
			})
		})
	}
}

func TestIDTokenHash(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyToken: func(members map[string]any) {
		sum := sha256.Sum256([]byte(members["access_token"].(string)))
		resign(t, members, testRSAKey(), jose.RS256, "id-1", map[string]any{"at_hash": base64.RawURLEncoding.EncodeToString(sum[:16])})
	}})
	if _, err := tryLogin(t, srv, newClient(t, srv, webApp)); err != nil {
		t.Error(err)
	}
}

// resign replaces the id_token in a token answer by one that another key signs,
// with claims changed. It does nothing where there is none.
func resign(t *testing.T, members map[string]any, key any, alg jose.SignatureAlgorithm, kid string, change map[string]any) {
	raw, ok := members["id_token"].(string)
	if !ok {
		return
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Error(err)
		return
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Error(err)
		return
	}
	for _, name := range []string{"iat", "exp"} {
		claims[name] = int64(claims[name].(float64))
	}
	maps.Copy(claims, change)
	text, err := json.Marshal(claims)
	if err != nil {
		t.Error(err)
		return
	}
	members["id_token"] = sign(t, key, alg, kid, string(text))
}

func sign(t *testing.T, key any, alg jose.SignatureAlgorithm, kid, payload string) string {
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	jws, err := s.Sign([]byte(payload))
	if err != nil {
		t.Error(err)
		return ""
	}
	return must(jws.CompactSerialize())
}

func TestIDTokenSignature(t *testing.T) {
	segment := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	publicPEM := []byte("a public key used as if it were a shared secret: known to all")
	stranger := must(rsa.GenerateKey(rand.Reader, 2048))
	for name, test := range map[string]struct {
		algorithms []string
		change     func(t *testing.T, members map[string]any)
		good       bool
	}{
		"none": {nil, func(t *testing.T, members map[string]any) {
			parts := strings.Split(members["id_token"].(string), ".")
			members["id_token"] = segment(`{"alg":"none"}`) + "." + parts[1] + "."
		}, false},
		"HS256 with what everybody knows": {nil, func(t *testing.T, members map[string]any) {
			resign(t, members, publicPEM, jose.HS256, "id-1", nil)
		}, false},
		"another's key under the server's kid": {nil, func(t *testing.T, members map[string]any) {
			resign(t, members, stranger, jose.RS256, "id-1", nil)
		}, false},
		"unknown kid": {nil, func(t *testing.T, members map[string]any) {
			resign(t, members, testRSAKey(), jose.RS256, "id-9", nil)
		}, false},
		"no kid": {nil, func(t *testing.T, members map[string]any) {
			resign(t, members, testRSAKey(), jose.RS256, "", nil)
		}, true},
		"algorithm not configured": {nil, func(t *testing.T, members map[string]any) {
			resign(t, members, testRSAKey(), jose.RS384, "id-1", nil)
		}, false},
		"algorithm not the key's": {[]string{"RS256", "RS384"}, func(t *testing.T, members map[string]any) {
			resign(t, members, testRSAKey(), jose.RS384, "id-1", nil)
		}, false},
		"cut short": {nil, func(t *testing.T, members map[string]any) {
			raw := members["id_token"].(string)
			members["id_token"] = raw[:len(raw)-8]
		}, false},
		"payload changed": {nil, func(t *testing.T, members map[string]any) {
			parts := strings.Split(members["id_token"].(string), ".")
			members["id_token"] = parts[0] + "." + segment(`{"sub":"admin"}`) + "." + parts[2]
		}, false},
		"as JSON": {nil, func(t *testing.T, members map[string]any) {
			parts := strings.Split(members["id_token"].(string), ".")
			members["id_token"] = fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2])
		}, false},
		"no JWS":  {nil, func(t *testing.T, members map[string]any) { members["id_token"] = "x" }, false},
		"missing": {nil, func(t *testing.T, members map[string]any) { delete(members, "id_token") }, false},
		"a claim twice": {nil, func(t *testing.T, members map[string]any) {
			payload := must(base64.RawURLEncoding.DecodeString(strings.Split(members["id_token"].(string), ".")[1]))
			members["id_token"] = sign(t, testRSAKey(), jose.RS256, "id-1", strings.Replace(string(payload), "{", `{"sub":"admin",`, 1))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyToken: func(members map[string]any) { test.change(t, members) }})
			client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.IDTokenAlgorithms = test.algorithms })
			token, err := tryLogin(t, srv, client)
			if test.good && err != nil || !test.good && (token != nil || !errors.Is(err, smartauth.ErrIDToken)) {
				t.Errorf("got %v, %v; good: %t", token, err, test.good)
			}
		})
	}
}

func TestIDTokenES384(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyToken: func(members map[string]any) {
		resign(t, members, testECKey(), jose.ES384, "ec", nil)
	}})
	serveKeys(srv, `{"keys":[
		{"kty":"OKP","crv":"Ed448","x":"AA","kid":"unknown"}, {"kty":"oct","k":"AAAA","kid":"ec"}, 7,
		`+string(must(jose.JSONWebKey{Key: testECKey().Public(), KeyID: "ec"}.MarshalJSON()))+`]}`)
	client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.IDTokenAlgorithms = []string{"ES384"} })
	if _, err := tryLogin(t, srv, client); err != nil {
		t.Error(err)
	}
}

// serveKeys makes the server's JWK Set a text.
func serveKeys(srv *smartauthtest.Server, text string) {
	srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Body: text})
}

func TestIDTokenAlgorithmsRefused(t *testing.T) {
	srv := newWebServer(t, nil)
	for _, alg := range []string{"none", "HS256", "HS512", "EdDSA", "rs256", ""} {
		cfg := smartauth.Config{BaseURL: srv.URL, ClientID: "web-app", Provider: provider.Public{}, IDTokenAlgorithms: []string{alg}}
		if _, err := smartauth.NewClient(cfg); !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%q: got %v, want ErrInvalidConfig", alg, err)
		}
	}
}

// Whatever the keys lack, the code is not used up for nothing.
func TestIDTokenKeysUnavailable(t *testing.T) {
	for name, order := range map[string]func(srv *smartauthtest.Server){
		"no issuer":   func(srv *smartauthtest.Server) { srv.SetConfigurationMember("issuer", nil) },
		"no jwks_uri": func(srv *smartauthtest.Server) { srv.SetConfigurationMember("jwks_uri", nil) },
		"http": func(srv *smartauthtest.Server) {
			srv.SetConfigurationMember("jwks_uri", strings.Replace(srv.JWKSURL, "https", "http", 1))
		},
		"404": func(srv *smartauthtest.Server) {
			srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Status: 404})
		},
		"HTML":   func(srv *smartauthtest.Server) { serveKeys(srv, "<html>") },
		"no set": func(srv *smartauthtest.Server) { serveKeys(srv, `{"keys":{}}`) },
		"endless": func(srv *smartauthtest.Server) {
			srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Stream: -1})
		},
		"slow": func(srv *smartauthtest.Server) {
			srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Delay: time.Hour})
		},
		"redirect elsewhere": func(srv *smartauthtest.Server) {
			srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Redirect: "https://evil.example.test/jwks"})
		},
		"dropped": func(srv *smartauthtest.Server) { srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Drop: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
				order(srv)
				began := time.Now()
				token, err := tryLogin(t, srv, newClient(t, srv, webApp))
				if token != nil || err == nil {
					t.Fatalf("got %v, %v; want an error", token, err)
				}
				if srv.TokenRequests() != 0 {
					t.Error("the code was used up")
				}
				if took := time.Since(began); took > 31*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestIDTokenKeysRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
		client := newClient(t, srv, webApp)
		requests := func(step string, want int) {
			t.Helper()
			if got := srv.Count(smartauthtest.EndpointJWKS); got != want {
				t.Errorf("%s: %d requests for keys, want %d", step, got, want)
			}
		}
		login(t, srv, client)
		login(t, srv, client)
		requests("two log-ins", 1)

		if err := srv.RotateSigningKey(); err != nil {
			t.Fatal(err)
		}
		login(t, srv, client)
		requests("a new key", 2)

		// A key that is never published can't make a request a log-in.
		serveKeys(srv, `{"keys":[]}`)
		if err := srv.RotateSigningKey(); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := tryLogin(t, srv, client); !errors.Is(err, smartauth.ErrIDToken) {
				t.Errorf("got %v, want ErrIDToken", err)
			}
		}
		requests("five log-ins in a row with an unpublished key", 2)
		time.Sleep(11 * time.Second)
		if _, err := tryLogin(t, srv, client); !errors.Is(err, smartauth.ErrIDToken) {
			t.Errorf("got %v, want ErrIDToken", err)
		}
		requests("another, later", 3)

		// The server publishes it.
		srv.ClearFaults()
		time.Sleep(11 * time.Second)
		login(t, srv, client)
		requests("published", 4)

		// Keys as old as a discovery document are asked for again, and serve on
		// while they can't be had.
		srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Status: http.StatusServiceUnavailable})
		time.Sleep(2 * time.Hour)
		login(t, srv, client)
		login(t, srv, client)
		requests("stale", 5)
		srv.ClearFaults()
		time.Sleep(time.Minute)
		login(t, srv, client)
		requests("fresh again", 6)
	})
}

func TestIDTokenKeysRotateForMany(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	for i := range 2 {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				launch, err := client.StartLaunch(t.Context(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				callback, err := srv.Authorize(t.Context(), launch.URL())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := client.Exchange(t.Context(), launch, callback.Query()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := srv.Count(smartauthtest.EndpointJWKS); got != i+1 {
			t.Errorf("%d requests for %d sets of keys", got, i+1)
		}
		if err := srv.RotateSigningKey(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFHIRUser(t *testing.T) {
	const base = "https://ehr.example.test/fhir/r4"
	for _, test := range []struct {
		claims map[string]any
		want   string
		bad    bool
	}{
		{claims: map[string]any{"fhirUser": base + "/Practitioner/a-1.b"}, want: base + "/Practitioner/a-1.b"},
		{claims: map[string]any{"fhirUser": "Patient/1"}, want: base + "/Patient/1"},
		{claims: map[string]any{"fhirUser": "PractitionerRole/1"}, want: base + "/PractitionerRole/1"},
		{claims: map[string]any{"fhirUser": "RelatedPerson/1"}, want: base + "/RelatedPerson/1"},
		{claims: map[string]any{"fhirUser": "Person/1"}, want: base + "/Person/1"},
		{claims: map[string]any{"fhirUser": "https://EHR.example.test:443/fhir/r4/Person/1"}, want: base + "/Person/1"},
		{claims: map[string]any{"fhirUser": "Device/1"}, bad: true},
		{claims: map[string]any{"fhirUser": "patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": "Patient"}, bad: true},
		{claims: map[string]any{"fhirUser": "Patient/"}, bad: true},
		{claims: map[string]any{"fhirUser": "Patient/.."}, bad: true},
		{claims: map[string]any{"fhirUser": "Patient/a/b"}, bad: true},
		{claims: map[string]any{"fhirUser": "Patient/a?x"}, bad: true},
		{claims: map[string]any{"fhirUser": "Patient/" + strings.Repeat("a", 65)}, bad: true},
		{claims: map[string]any{"fhirUser": "/Patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": "../Patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": base + "x/Patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": "http://ehr.example.test/fhir/r4/Patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": "https://ehr.example.test/other/Patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": base + "/Patient/1?x=y"}, bad: true},
		{claims: map[string]any{"fhirUser": "https://x@ehr.example.test/fhir/r4/Patient/1"}, bad: true},
		{claims: map[string]any{"fhirUser": ""}, bad: true},
		{claims: map[string]any{"fhirUser": 7}, bad: true},
		{claims: map[string]any{"profile": "Practitioner/1"}, want: base + "/Practitioner/1"},
		{claims: map[string]any{"profile": "https://social.example.test/me"}, want: ""},
		{claims: map[string]any{"fhirUser": "Patient/1", "profile": "Practitioner/1"}, want: base + "/Patient/1"},
		{claims: map[string]any{"fhirUser": "x", "profile": "Practitioner/1"}, bad: true},
	} {
		t.Run(fmt.Sprint(test.claims), func(t *testing.T) {
			srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyIDToken: func(claims map[string]any) {
				delete(claims, "fhirUser")
				maps.Copy(claims, test.claims)
			}})
			token, err := tryLogin(t, srv, newClient(t, srv, webApp))
			if test.bad {
				if !errors.Is(err, smartauth.ErrIDToken) {
					t.Errorf("got %v, want ErrIDToken", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := token.Identity().FHIRUser; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestIdentityClaims(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyIDToken: func(claims map[string]any) { claims["name"] = "Ada" }})
	client := newClient(t, srv, webApp)
	launch := startLaunch(t, client, nil)
	token, err := client.Exchange(t.Context(), launch, callbackOf(t, srv, launch))
	if err != nil {
		t.Fatal(err)
	}
	id := token.Identity()
	if name, ok := id.Claim("name"); !ok || string(name) != `"Ada"` {
		t.Errorf("name %s, %t", name, ok)
	}
	if _, ok := id.Claim("Name"); ok {
		t.Error("a claim is found under another name")
	}
	copied := id.Claims()
	clear(copied)
	if _, ok := id.Claim("name"); !ok {
		t.Error("Claims is no copy")
	}
	nonce := launch.Form().Get("nonce")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, id) + fmt.Sprintf(verb, *id) + fmt.Sprintf(verb, token); strings.Contains(text, nonce) || strings.Contains(text, "Ada") {
			t.Errorf("claims show in %s", text)
		}
	}
	if asJSON, err := json.Marshal(id); err != nil || strings.Contains(string(asJSON), nonce) {
		t.Errorf("JSON %s, %v", asJSON, err)
	}
	var none *smartauth.Identity
	if _, ok := none.Claim("sub"); ok || none.Claims() != nil || (*smartauth.Token)(nil).Identity() != nil {
		t.Error("nil has claims")
	}
}
