package canary

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

var idKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// testFlows logs in at the strict server, with id tokens that repeat values, and
// has it fail in its own ways.
func testFlows(t *testing.T) {
	w := newCommonWatch(t)
	signing, err := idKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]func(map[string]any){
		"good":       func(map[string]any) {},
		"iss":        func(c map[string]any) { c["iss"] = clientSecret },
		"aud":        func(c map[string]any) { c["aud"] = []string{clientSecret, "app"} },
		"no aud":     func(c map[string]any) { c["aud"] = clientSecret },
		"azp":        func(c map[string]any) { c["azp"] = clientSecret },
		"exp":        func(c map[string]any) { c["exp"] = clientSecret },
		"nonce":      func(c map[string]any) { c["nonce"] = clientSecret },
		"nonce type": func(c map[string]any) { c["nonce"] = []any{c["nonce"], clientSecret} },
		"at_hash":    func(c map[string]any) { c["at_hash"] = clientSecret },
		"fhirUser":   func(c map[string]any) { c["fhirUser"] = "https://other.example.test/" + accessToken },
		"case":       func(c map[string]any) { c["ISS"] = clientSecret },
		"sub":        func(c map[string]any) { delete(c, "sub"); c[clientSecret] = clientSecret },
	}
	for name, modify := range claims {
		server := smartauthtest.NewServer(t, &smartauthtest.Options{SigningKey: signing, ModifyIDToken: modify})
		server.AddClient(smartauthtest.Client{ID: "app", Secrets: []string{clientSecret}, RedirectURIs: []string{"https://app.example.test/callback"}})
		p, err := provider.NewClientSecretBasic(secretsource.Static([]byte(clientSecret)), &provider.SecretOptions{
			Rotation: &provider.RotationOptions{Observer: w.observer()},
		})
		if err != nil {
			t.Fatal(err)
		}
		client, err := smartauth.NewClient(smartauth.Config{
			BaseURL: server.URL, ClientID: "app", Provider: p, RedirectURL: "https://app.example.test/callback",
			Scopes:                []string{"openid", "fhirUser", "launch/patient", "offline_access", "patient/*.rs"},
			AllowInsecureLoopback: true, Observer: w.observer(),
		})
		if err != nil {
			t.Fatal(err)
		}
		driveFlow(t, w, name, server, client)
		client.Close()
		w.value("closed client", client)
		_, err = client.Token(t.Context())
		w.err("closed", err)
	}
}

func driveFlow(t *testing.T, w *watch, name string, server *smartauthtest.Server, client *smartauth.Client) {
	ctx := t.Context()
	launch, err := client.StartLaunch(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	form := launch.Form()
	w.secret("state", launch.State())
	w.secret("nonce", form.Get("nonce"))
	_, saved, _ := strings.Cut(string(launch.Save()), `"code_verifier":"`)
	verifier, _, _ := strings.Cut(saved, `"`)
	w.secret("code verifier", verifier)
	w.value("launch", launch)
	_, err = smartauth.RestoreLaunch(append(launch.Save(), '!'))
	w.err("restore", err)
	restored, err := smartauth.RestoreLaunch(launch.Save())
	if err != nil {
		t.Fatal(err)
	}
	w.value("restored launch", restored)
	location, err := server.Authorize(ctx, launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	callback := location.Query()
	w.secret("authorization code", callback.Get("code"))
	for _, state := range []string{"", accessToken} {
		wrong := url.Values{"state": {state}, "code": callback["code"]}
		_, err = client.Exchange(ctx, launch, wrong)
		w.err("wrong state", err)
	}
	token, err := client.Exchange(ctx, launch, callback)
	w.err(name+": exchange", err)
	if (err == nil) != (name == "good") {
		t.Errorf("%s: exchange: %v", name, err)
	}
	_, err = client.Exchange(ctx, launch, callback)
	w.err("used launch", err)
	_, err = client.Exchange(ctx, restored, callback)
	w.err("used code", err)
	w.value("client", client)
	if token == nil {
		return
	}
	w.secretToken(token)
	w.value("token", token)
	w.value("identity", token.Identity())
	w.print("violations", token.Violations(smartauth.ProfileAppLaunch))
	introspection, err := client.Introspect(ctx, token.AccessToken(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.value("introspection", introspection)
	source := client.SessionSource(token, &smartauth.SessionOptions{Store: func(context.Context, *smartauth.Token) error { return errors.New("own text") }})
	source.Drop(token)
	_, err = source.Token(ctx)
	w.err("store fails", err)
	w.value("token source", source)
	w.value("as oauth2's", source.OAuth2(ctx))
	// Wrong verbs would print net/http's own transport, which is at work.
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		w.text("HTTP client", fmt.Sprintf(verb, client.HTTPClient()))
		w.text("transport", fmt.Sprintf(verb, client.Transport(source)))
	}
	_, err = client.Refresh(ctx, token, nil)
	w.err("used refresh token", err)
	fresh, err := client.Token(ctx)
	w.err("client credentials", err)
	if fresh != nil {
		w.secretToken(fresh)
		w.value("token", fresh)
		w.err("revoke", client.Revoke(ctx, fresh))
	}
	own, _ := client.TokenSource(nil)
	w.value("token source", own)
	w.value("options", smartauth.IntrospectOptions{Bearer: token})
	for _, endpoint := range []smartauthtest.Endpoint{smartauthtest.EndpointToken, smartauthtest.EndpointIntrospect, smartauthtest.EndpointRevoke, smartauthtest.EndpointFHIR} {
		for echo := smartauthtest.EchoJSON; echo <= smartauthtest.EchoJSON|smartauthtest.EchoHTML|smartauthtest.EchoHeaders; echo++ {
			server.Fail(endpoint, smartauthtest.Fault{Echo: echo, Status: []int{400, 401, 500}[int(echo)%3]})
			held, err := smartauth.ParseToken(token.Answer(), nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Refresh(ctx, held, nil)
			w.err("echoed refresh", err)
			_, err = client.Introspect(ctx, token.AccessToken(), nil)
			w.err("echoed introspection", err)
			w.err("echoed revocation", client.Revoke(ctx, held))
			hc := &http.Client{Transport: client.Transport(client.SessionSource(held, nil))}
			if resp, err := hc.Get(server.URL + "/Patient/1"); err != nil {
				w.err("echoed FHIR", err)
			} else {
				resp.Body.Close()
			}
			server.ClearFaults()
		}
	}
}

func (w *watch) secretToken(token *smartauth.Token) {
	w.secret("access token", token.AccessToken())
	w.secret("refresh token", token.RefreshToken())
	if jwt := token.IDToken(); jwt != "" {
		w.secret("id token", jwt[strings.LastIndexByte(jwt, '.')+1:])
	}
}

// testCallback: the browser comes back with an error that repeats what was sent.
func testCallback(t *testing.T) {
	w := newCommonWatch(t)
	server := newEchoServer(t, w)
	client := newClient(t, w, server, provider.Public{}, nil)
	defer client.Close()
	for codingName, coding := range codings {
		for _, issuer := range []string{"", server.URL, accessToken} {
			launch, err := client.StartLaunch(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			state := w.secret("state", launch.State())
			_, saved, _ := strings.Cut(string(launch.Save()), `"code_verifier":"`)
			verifier, _, _ := strings.Cut(saved, `"`)
			w.secret("code verifier", verifier)
			text := coding(state) + " " + coding(verifier) + " " + coding(authCode)
			callback := url.Values{"state": {state}, "code": {authCode}, "error": {text}, "error_description": {text}, "error_uri": {"https://x.example.test/" + text}}
			if issuer != "" {
				callback.Set("iss", issuer)
			}
			_, err = client.Exchange(t.Context(), launch, callback)
			if err == nil {
				t.Errorf("%s: no error", codingName)
			}
			w.err("callback, "+codingName, err)
			callback["state"] = append(callback["state"], authCode)
			_, err = client.Exchange(t.Context(), launch, callback)
			w.err("callback with two states", err)
		}
	}
	_, err := client.StartLaunch(t.Context(), &smartauth.LaunchOptions{Launch: accessToken, Issuer: "https://" + accessToken, Params: url.Values{"state": {clientSecret}}, Scopes: []string{clientSecret}})
	w.err("launch options", err)
	_, err = client.StartLaunch(t.Context(), &smartauth.LaunchOptions{Params: url.Values{"state": {clientSecret}}, Scopes: []string{clientSecret}})
	w.err("launch options", err)
	_, err = client.TokenSource(&smartauth.TokenOptions{Params: url.Values{"client_secret": {clientSecret}}})
	w.err("token options", err)
	_, err = smartauth.CodeChallenge(clientSecret)
	w.err("code challenge", err)
	_, err = smartauth.CodeChallenge(verifierValue + "!")
	w.err("code challenge", err)
	for _, answer := range []string{`{"access_token":"%[1]s`, `{"access_token":["%[1]s"]}`, `{"access_token":"x","token_type":"%[1]s"}`, `{"error":"%[1]s"}`, `{"access_token":"%[1]s\u0000"}`, `"%[1]s"`, `{"%[1]s":1,"%[1]s":2,"access_token":"y","token_type":"bearer","expires_in":"%[1]s","scope":7,"refresh_token":7,"patient":["%[1]s"]}`} {
		token, err := smartauth.ParseToken(fmt.Appendf(nil, answer, accessToken), nil, time.Now())
		w.err("parse token", err)
		if token != nil {
			w.value("odd token", token)
			w.print("violations", token.Violations(smartauth.ProfileBackendServices))
		}
	}
}

// testDiscovery: the SMART configuration repeats what the server got before.
func testDiscovery(t *testing.T) {
	w := newCommonWatch(t)
	server := newEchoServer(t, w)
	server.set(places["description"], codings["raw"])
	host := strings.ToLower(accessToken)
	for _, url := range []string{
		"https://user:" + accessToken + "@127.0.0.1:1/token", "https://127.0.0.1:1/token?x=" + accessToken, "https://127.0.0.1:1/token#" + accessToken,
		"http://127.0.0.1:1/" + accessToken, "ftp://" + accessToken, "https://[" + accessToken, accessToken, "%zz" + accessToken, "https://127.0.0.1:" + accessToken + "/",
		"//" + host + ".invalid/token", "javascript:" + accessToken,
	} {
		server.members = map[string]any{
			"token_endpoint": url, "introspection_endpoint": url, "revocation_endpoint": url, "authorization_endpoint": url, "jwks_uri": url,
			"issuer": accessToken, "capabilities": []any{accessToken, 7}, "scopes_supported": accessToken, accessToken: accessToken,
		}
		for _, hosts := range [][]string{nil, {"127.0.0.1:1"}} {
			client := newClient(t, w, server, provider.Public{}, func(cfg *smartauth.Config) { cfg.AllowedAuthHosts = hosts })
			for call, do := range calls {
				if strings.HasPrefix(url, "//") {
					break // a host may be named in errors: the server has no secret yet
				}
				err := do(t.Context(), w, client, heldToken(t))
				w.err("hostile discovery, "+call, err)
			}
			if doc, err := client.Discover(t.Context()); err == nil {
				w.print("violations", doc.Violations())
			}
			client.Close()
		}
	}
	for _, body := range []string{`{"token_endpoint":"` + accessToken, `["` + accessToken + `"]`, accessToken, `{"a":"` + accessToken + `","a":{}}}`} {
		_, err := smartauth.ParseConfiguration(server.base(), []byte(body))
		w.err("parse configuration", err)
	}
	_, err := smartauth.ParseConfiguration("https://user:"+accessToken+"@[::1/", []byte("{}"))
	w.err("parse configuration", err)
	for _, base := range []string{"https://user:" + accessToken + "@ehr.example.test/r4", "https://ehr.example.test/?" + accessToken, "%zz" + accessToken, accessToken, "http://ehr.example.test/" + accessToken} {
		_, err := smartauth.NewClient(smartauth.Config{
			BaseURL: base, ClientID: "app", Provider: provider.Public{}, TokenEndpoint: base, Issuer: base, RedirectURL: base + "#x", FHIRPrefixes: []string{base},
			TokenParams: url.Values{"client_secret": {clientSecret}}, Scopes: []string{clientSecret}, IDTokenAlgorithms: []string{"HS256"},
		})
		if err == nil && base != "https://ehr.example.test/?"+accessToken {
			t.Errorf("%s: no error", base)
		}
		w.err("configuration", err)
	}
	cfg := smartauth.Config{PreTokenRequest: func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error) { return nil, nil }, Provider: newProviders(t, w, newSigner(t, w))["post"], HTTPClient: server.Client()}
	w.value("configuration", cfg)
}

// testTLS: the server repeats what it got in a certificate, in what is no TLS,
// and ends connections.
func testTLS(t *testing.T) {
	w := newCommonWatch(t)
	key := newKey(t, w)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: accessToken},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{strings.ToLower(accessToken) + ".example.test"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(leaf)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "\x15\x03\x01\x00\x40"+accessToken+accessToken+"\r\n")
			conn.Close()
		}
	}()
	for name, base := range map[string]string{"certificate": server.URL, "no TLS": "https://" + listener.Addr().String()} {
		for _, roots := range []*x509.CertPool{nil, trusted} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
			held := heldToken(t)
			client, err := smartauth.NewClient(smartauth.Config{
				BaseURL: base, ClientID: "app", Provider: provider.Public{}, TokenEndpoint: base + "/token", Scopes: []string{"system/*.rs"},
				HTTPClient: &http.Client{Transport: transport}, Observer: w.observer(),
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Token(t.Context())
			w.err(name, err)
			_, err = client.Refresh(t.Context(), held, nil)
			w.err(name, err)
			_, err = client.Discover(t.Context())
			w.err(name, err)
			hc := &http.Client{Transport: client.Transport(client.SessionSource(held, nil))}
			_, err = hc.Get(base + "/Patient/1")
			if err == nil {
				t.Errorf("%s: no error", name)
			}
			w.err(name+", FHIR", err)
			client.Close()
			transport.CloseIdleConnections()
		}
	}
}

// testHook: a bearer token that the application supplies.
func testHook(t *testing.T) {
	w := newCommonWatch(t)
	server := newEchoServer(t, w)
	for _, hook := range []func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error){
		func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error) {
			return nil, errors.New("own text")
		},
		func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error) {
			return smartauth.ParseToken([]byte(`{"access_token":"`+hookToken+`","token_type":"Bearer"}`), nil, time.Now())
		},
	} {
		server.set(places["no HTTP"], codings["raw"])
		client := newClient(t, w, server, provider.Public{}, func(cfg *smartauth.Config) { cfg.PreTokenRequest = hook })
		token, err := client.Token(t.Context())
		w.err("hook", err)
		if token != nil {
			w.value("hook's token", token)
		}
		resp, err := client.HTTPClient().Get(server.base() + "/Patient/1")
		w.err("FHIR", err)
		if err == nil {
			resp.Body.Close()
		}
		w.value("client", client)
		client.Close()
	}
}
