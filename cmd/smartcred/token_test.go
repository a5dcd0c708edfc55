package main

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestTokenByEveryMethod(t *testing.T) {
	w := newWorld(t, nil)
	const secret = "pass word%:/é"
	secretApp := smartauthtest.Client{ID: "app", Secrets: []string{secret}}
	for _, test := range []struct {
		name  string
		setup func()
		args  []string
		sent  string
	}{
		{"ES384", func() { w.key("ES384", "es.pem", "app") }, []string{"--signer", "file:es.pem"}, smartauthtest.AuthPrivateKeyJWT},
		{"RS384", func() { w.key("RS384", "rs.pem", "app") }, []string{"--signer", "file:rs.pem"}, smartauthtest.AuthPrivateKeyJWT},
		{"signer wins over secret", func() { w.key("ES384", "wins.pem", "app") }, []string{"--signer", "file:wins.pem", "--secret", "file:none"}, smartauthtest.AuthPrivateKeyJWT},
		{"basic from a file", func() { w.write("secret", secret+"\n"); w.srv.AddClient(secretApp) }, []string{"--secret", "file:secret"}, smartauthtest.AuthClientSecretBasic},
		{"basic from the environment", func() { w.env = []string{"APP_SECRET=" + secret} }, []string{"--secret", "env:APP_SECRET"}, smartauthtest.AuthClientSecretBasic},
		{"first of a list", nil, []string{"--secret", "file:secret,env:ABSENT"}, smartauthtest.AuthClientSecretBasic},
		{"post", nil, []string{"--secret", "file:secret", "--auth-method", "client_secret_post"}, smartauthtest.AuthClientSecretPost},
		{"basic, raw", func() {
			raw := secretApp
			raw.BasicEncoding = smartauthtest.Raw
			w.srv.AddClient(raw)
		}, []string{"--secret", "file:secret", "--secret-encoding", "raw"}, smartauthtest.AuthClientSecretBasic},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			if test.setup != nil {
				test.setup()
			}
			w.srv.ResetRequests()
			r := w.run(w.args("token", test.args...)...)
			token, end := strings.CutSuffix(r.ok(), "\n")
			if !end || !w.srv.Active(token) {
				t.Errorf("standard output %q is no token of the server and a newline", r.stdout)
			}
			if r.stderr != "" {
				t.Errorf("standard error: %q", r.stderr)
			}
			if sent := w.srv.RequestsTo(smartauthtest.EndpointToken); len(sent) != 1 || sent[0].AuthMethod != test.sent {
				t.Errorf("authenticated otherwise than by %s: %v", test.sent, sent)
			}
		})
	}
}

func TestTokenJSON(t *testing.T) {
	w := newWorld(t, &smartauthtest.Options{ModifyToken: func(members map[string]any) { members["__vendor"] = "kept" }})
	w.key("ES384", "key.pem", "app")
	answer := decodeJSON[map[string]any](t, w.run(w.args("token", "--signer", "file:key.pem", "--json")...).ok())
	if token, _ := answer["access_token"].(string); !w.srv.Active(token) || answer["__vendor"] != "kept" || answer["scope"] != "system/*.rs" {
		t.Errorf("not the server's whole answer: %v", answer)
	}
}

func TestTokenOut(t *testing.T) {
	w := newWorld(t, nil)
	w.key("ES384", "key.pem", "app")
	get := func(out string, more ...string) *result {
		return w.run(w.args("token", append(more, "--signer", "file:key.pem", "--out", out)...)...)
	}
	check := func(name string) {
		t.Helper()
		path := filepath.Join(w.dir, name)
		if m := mode(t, path); m != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, m)
		}
		if !w.srv.Active(strings.TrimSuffix(read(t, path), "\n")) {
			t.Errorf("%s holds no token", name)
		}
	}
	onlyFiles := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(w.dir)
		if err != nil || len(entries) != len(want) {
			t.Errorf("the folder holds %v (%v), want %v", entries, err, want)
		}
	}

	if r := get("token"); r.ok() != "" || r.stderr != "" {
		t.Errorf("something was printed: %q %q", r.stdout, r.stderr)
	}
	check("token")
	onlyFiles("key.pem", "token")

	path := filepath.Join(w.dir, "token")
	if err := os.WriteFile(path, []byte("an older and much longer content than any token has"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	get("token").ok()
	check("token")

	if answer := decodeJSON[map[string]any](t, func() string { get("token", "--json").ok(); return read(t, path) }()); answer["access_token"] == nil {
		t.Errorf("--json --out wrote %v", answer)
	}

	// Nothing is asked for that could not be stored.
	w.write("target", "untouched")
	if err := os.Symlink("target", filepath.Join(w.dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.srv.ResetRequests()
	get("link").fails(exitUsage, "--out: is a link")
	get("folder").fails(exitUsage, "--out: is a link, a folder")
	get("folder/").fails(exitUsage, "--out: names no file")
	get("").fails(exitUsage, "--out: names no file")
	get("absent/token").fails(exitUsage, "--out: the file can't be written")
	if n := len(w.srv.Requests()); n != 0 {
		t.Errorf("%d requests for tokens that can't be stored", n)
	}
	if read(t, filepath.Join(w.dir, "target")) != "untouched" {
		t.Error("the link was followed")
	}

	// A failure leaves the old token, and nothing beside it.
	before := read(t, path)
	w.srv.SetJWKS("app", `{"keys":[]}`)
	get("token").fails(exitRefused)
	if read(t, path) != before {
		t.Error("a failure changed the file")
	}
	onlyFiles("folder", "key.pem", "link", "target", "token")
}

func TestTokenFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.srv.AddClient(smartauthtest.Client{ID: "app", Secrets: []string{"right"}})
	w.write("right", "right")
	w.write("wrong", "wrong")
	w.write("empty", "")
	open := w.write("open", "right")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	token := smartauthtest.EndpointToken
	configuration := smartauthtest.EndpointConfiguration
	for _, test := range []struct {
		name     string
		endpoint smartauthtest.Endpoint
		fault    smartauthtest.Fault
		secret   string
		more     []string
		status   int
		says     []string
	}{
		{name: "wrong secret", secret: "file:wrong", status: 3, says: []string{"invalid_client", "compare client_id"}},
		{name: "public client", more: []string{"--auth-method", "none"}, status: 3, says: []string{"answered"}},
		{name: "scope refused", endpoint: token, fault: smartauthtest.Fault{Status: 400, Error: "invalid_scope"}, status: 3, says: []string{"invalid_scope", "scopes_supported"}},
		{name: "grant not allowed", endpoint: token, fault: smartauthtest.Fault{Status: 400, Error: "unauthorized_client"}, status: 3, says: []string{"have client_credentials allowed"}},
		{name: "OAuth error with 200", endpoint: token, fault: smartauthtest.Fault{Status: 200, Error: "invalid_request"}, status: 3, says: []string{"invalid_request"}},
		{name: "OAuth error with 500", endpoint: token, fault: smartauthtest.Fault{Status: 500, Error: "invalid_client"}, status: 5, says: []string{"HTTP 500", "try again later"}},
		{name: "429", endpoint: token, fault: smartauthtest.Fault{Status: 429, Error: "slow_down", Header: map[string][]string{"Retry-After": {"7"}}}, status: 5, says: []string{"retry after 7s"}},
		{name: "HTML", endpoint: token, fault: smartauthtest.Fault{Status: 200, Body: "<html>portal</html>"}, status: 5, says: []string{"HTTP 200 text/html"}},
		{name: "redirect", endpoint: token, fault: smartauthtest.Fault{Redirect: "https://elsewhere.example.com/"}, status: 5, says: []string{"redirect"}},
		{name: "cut", endpoint: token, fault: smartauthtest.Fault{Drop: true}, status: 5},
		{name: "too slow", endpoint: token, fault: smartauthtest.Fault{Delay: time.Minute}, more: []string{"--timeout", "300ms"}, status: 5, says: []string{"deadline exceeded", "raise timeout"}},
		{name: "discovery too slow", endpoint: configuration, fault: smartauthtest.Fault{Delay: time.Minute}, more: []string{"--timeout", "300ms"}, status: 5, says: []string{"deadline exceeded", "raise timeout"}},
		{name: "no configuration", endpoint: configuration, fault: smartauthtest.Fault{Status: 404, Body: "<html>"}, status: 5, says: []string{"HTTP 404", "base_url"}},
		{name: "endpoint on a host not allowed", more: []string{"--allowed-auth-hosts", "auth.example.com"}, status: 5, says: []string{"allowed_auth_hosts"}},
		{name: "secret file missing", secret: "file:absent", status: 4, says: []string{"absent", "not found", "check the reference"}},
		{name: "variable missing", secret: "env:ABSENT", status: 4, says: []string{"ABSENT", "not found"}},
		{name: "key missing", more: []string{"--signer", "file:absent.pem"}, status: 4, says: []string{"absent.pem", "not found"}},
		{name: "secret file empty", secret: "file:empty", status: 2, says: []string{"empty"}},
		{name: "secret file open to all", secret: "file:open", status: 2, says: []string{"others can read it", "insecure_permissions"}},
		{name: "no key in the key file", more: []string{"--signer", "file:right"}, status: 2, says: []string{"signer: "}},
		{name: "a secret in place of a reference", secret: "hunter2hunter2", status: 2, says: []string{"secret: ", "env:", "vault-kv:"}},
		{name: "Vault, nobody knows where", secret: "vault-kv://secret/smart#x", status: 2, says: []string{"secret: ", "vault-kv: address: says where Vault is: set VAULT_ADDR"}},
		{name: "unknown scheme", more: []string{"--signer", "gopher://x"}, status: 2, says: []string{"signer: ", "file:", "awskms:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			w.srv.ClearFaults()
			if test.endpoint != "" {
				w.srv.Fail(test.endpoint, test.fault)
			}
			if test.secret == "" {
				test.secret = "file:right"
			}
			r := w.run(w.args("token", append(test.more, "--secret", test.secret)...)...)
			r.fails(test.status, test.says...)
			if strings.Contains(r.stderr, "hunter2") {
				t.Error("the value is printed")
			}
			if strings.Contains(r.stderr, "import ") || strings.Contains(r.stderr, "provider: ") {
				t.Error("it is said as to a programmer")
			}
		})
	}

	t.Run("insecure_permissions", func(t *testing.T) {
		w.t = t
		w.srv.ClearFaults()
		r := w.run(w.args("token", "--secret", "file:open", "--insecure-permissions")...)
		if r.ok(); strings.Count(r.stderr, "warning: insecure permissions") != 1 {
			t.Errorf("no warning, or several: %q", r.stderr)
		}
	})
	t.Run("server gone", func(t *testing.T) {
		w.t = t
		w.srv.Close()
		w.run(w.args("token", "--secret", "file:right")...).fails(exitServer, "connection refused", "base_url")
	})
}

func TestTokenVerbose(t *testing.T) {
	w := newWorld(t, nil)
	w.key("ES384", "key.pem", "app")
	r := w.run(w.args("token", "--verbose", "--signer", "file:key.pem")...)
	if !w.srv.Active(strings.TrimSuffix(r.ok(), "\n")) {
		t.Error("standard output is no token")
	}
	sent := w.srv.RequestsTo(smartauthtest.EndpointToken)[0]
	jti, _ := sent.AssertionClaims["jti"].(string)
	kid, _ := sent.AssertionHeader["kid"].(string)
	for _, text := range []string{
		"GET " + w.srv.ConfigurationURL + ": HTTP 200", "POST " + w.srv.TokenURL + ": HTTP 200",
		"token endpoint " + w.srv.TokenURL, "private_key_jwt", "alg ES384", "aud " + w.srv.TokenURL,
		jti, kid, `version "`, "clock skew ", "correlation id ", "answer: a token",
	} {
		if text == "" || !strings.Contains(r.stderr, text) {
			t.Errorf("standard error does not say %q:\n%s", text, r.stderr)
		}
	}
	if !strings.Contains(r.stderr, "exp in 4m0s") && !strings.Contains(r.stderr, "exp in 3m59s") { // a second may begin between
		t.Errorf("standard error does not say when exp is:\n%s", r.stderr)
	}
	if strings.Contains(r.stderr, sent.Form.Get("client_assertion")) {
		t.Error("the assertion is printed")
	}
}

// A server that echoes what it gets must not bring a credential to a terminal.
func TestNothingPrintsACredential(t *testing.T) {
	const canary = "canary-Secret/+ value"
	w := newWorld(t, nil)
	w.srv.AddClient(smartauthtest.Client{ID: "app", Secrets: []string{canary}})
	w.write("secret", canary)
	w.key("ES384", "key.pem", "jwt-app")
	for _, method := range [][]string{
		{"--secret", "file:secret"},
		{"--secret", "file:secret", "--auth-method", "client_secret_post"},
		{"--signer", "file:key.pem", "--client-id", "jwt-app"},
	} {
		for name, fault := range map[string]smartauthtest.Fault{
			"JSON":    {Status: 400, Echo: smartauthtest.EchoJSON},
			"HTML":    {Status: 400, Echo: smartauthtest.EchoHTML},
			"headers": {Status: 400, Error: "invalid_client", Echo: smartauthtest.EchoHeaders | smartauthtest.EchoJSON},
			"garbage": {Status: 200, Echo: smartauthtest.EchoHTML | smartauthtest.EchoHeaders},
		} {
			t.Run(strings.Join(method, " ")+" "+name, func(t *testing.T) {
				w.t = t
				w.srv.ClearFaults()
				w.srv.ResetRequests()
				w.srv.Fail(smartauthtest.EndpointToken, fault)
				args := []string{"token", "--base-url", w.srv.URL, "--allow-insecure-loopback", "--scopes", "system/*.rs", "--verbose"}
				if len(method) < 4 || method[2] != "--client-id" {
					args = append(args, "--client-id", "app")
				}
				r := w.run(append(args, method...)...)
				if r.status != exitRefused && r.status != exitServer || r.stdout != "" {
					t.Errorf("status %d, standard output %q", r.status, r.stdout)
				}
				sent := w.srv.RequestsTo(smartauthtest.EndpointToken)
				if len(sent) != 1 {
					t.Fatalf("%d token requests", len(sent))
				}
				credentials := []string{canary, base64.StdEncoding.EncodeToString([]byte(canary)), "canary"}
				if jwt := sent[0].Form.Get("client_assertion"); jwt != "" {
					credentials = append(credentials, jwt, jwt[strings.LastIndexByte(jwt, '.')+1:])
				}
				if header := sent[0].Header.Get("Authorization"); header != "" {
					credentials = append(credentials, strings.TrimPrefix(header, "Basic "))
				}
				for _, c := range credentials {
					if strings.Contains(r.stderr, c) {
						t.Errorf("standard error holds a credential:\n%s", r.stderr)
					}
				}
			})
		}
	}
}

func TestSignalEndsToken(t *testing.T) {
	w := newWorld(t, nil)
	w.key("ES384", "key.pem", "app")
	arrived := make(chan struct{})
	w.srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})})
	var stdout, stderr strings.Builder
	cmd := w.command(w.args("token", "--signer", "file:key.pem", "--out", "token")...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("ended with %v", err)
	}
	if stdout.Len() > 0 || !strings.Contains(stderr.String(), "terminated") {
		t.Errorf("standard output %q, standard error %q", stdout.String(), stderr.String())
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}
