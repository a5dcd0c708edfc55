package canary

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smartcred/smartcred/internal/awsfake"
)

// testCommand runs the command line at servers that repeat what they get, and
// with secrets in the wrong place.
func testCommand(t *testing.T) {
	w := newCommonWatch(t)
	server := newEchoServer(t, w)
	folder := t.TempDir()
	program := filepath.Join(t.TempDir(), "smartcred.exe")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "../../cmd/smartcred").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	key := newKey(t, w)
	for name, content := range map[string]string{
		"secret": clientSecret, "secret.previous": previousSecret, "passphrase": passphrase, "object": `{"client_secret": "` + accessToken + `"`,
		"key.pem": string(pkcs8PEM(t, key, "")), "encrypted.pem": string(pkcs8PEM(t, key, passphrase)), "cut.pem": string(pkcs8PEM(t, key, "")[:150]),
		"wrong.yaml":     "client_secret: '" + accessToken + "'\nsecret: '" + accessToken + "'\nclient_id: [{" + accessToken + ": 1}]\n",
		"malformed.yaml": "secret: '" + accessToken + "\n  - " + accessToken + ": [\n", "alias.yaml": "secret: *" + accessToken + "\n", "tag.yaml": "secret: !!binary " + accessToken + "\n",
		"plugins.yaml": "plugins: {echo: {path: " + filepath.Join(folder, "plugin") + ", env: [CANARY_PLUGIN_TOKEN, CANARY_SECRET]}}\n",
		"plugin":       strings.NewReplacer("HELLO", pluginModes["standard error"][0], "ANSWER", pluginModes["standard error"][1]).Replace(pluginScript),
		"state":        `{"version": 1, "entries": {"` + accessToken + `": "` + accessToken + `"`,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	aws, vault := &echoAWS{}, &echoVault{}
	aws.status.Store(http.StatusForbidden)
	vault.status.Store(http.StatusForbidden)
	backends := backendEnvironment(t, w, aws, vault)
	for _, path := range []string{folder, filepath.Join(folder, "plugin")} {
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var outputs atomic.Int64
	run := func(mayPrintToken bool, args ...string) (stdout string, status int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir = folder
		cmd.Env = slices.Concat(os.Environ(), backends, []string{"CANARY_SECRET=" + clientSecret, "CANARY_PIN=" + hsmPIN, "CANARY_PLUGIN_TOKEN=" + pluginToken})
		var out, messages bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &messages
		_ = cmd.Run()
		where := "smartcred " + args[0]
		w.text(where+", standard error", messages.String())
		if !mayPrintToken {
			w.text(where+", standard output", out.String())
		}
		outputs.Add(int64(messages.Len()))
		return out.String(), cmd.ProcessState.ExitCode()
	}
	at := func(command string, more ...string) []string {
		return append([]string{command, "--base-url", server.base(), "--allow-insecure-loopback", "--client-id", "app", "--scopes", "system/*.rs"}, more...)
	}
	credentials := map[string][]string{
		"basic":     {"--secret", "file:secret"},
		"post":      {"--secret", "env:CANARY_SECRET", "--auth-method", "client_secret_post"},
		"jwt":       {"--signer", "file:key.pem"},
		"encrypted": {"--signer", "file:encrypted.pem?passphrase-source=" + url.QueryEscape("file:passphrase")},
	}
	for _, place := range []string{"description", "headers", "headers of a page", "page", "code", "location", "no HTTP", "status text", "broken JSON", "cut body"} {
		for name, flags := range credentials {
			if name == "encrypted" && place != "description" {
				continue
			}
			server.set(places[place], codings[[]string{"raw", "form", "base64"}[len(place)%3]])
			if _, status := run(false, at("token", append(flags, "--verbose", "--state-file", filepath.Join(t.TempDir(), "state"))...)...); status == 0 {
				t.Errorf("token, %s, %s: status 0", place, name)
			}
		}
	}
	server.handle(tokenAnswer)
	out, status := run(true, at("token", "--secret", "file:secret", "--verbose", "--state-file", "fresh-state")...)
	if status != 0 || out != accessToken+"\n" {
		t.Errorf("token: status %d, %q", status, out)
	}
	run(false, at("token", "--secret", "file:secret", "--out", "token")...)
	run(false, at("assertion", "--signer", "file:key.pem")...)
	run(false, at("jwks", "--signer", "file:key.pem")...)
	run(false, at("discover")...)
	run(false, at("check", "--secret", "file:secret")...)
	run(false, at("rotation", "--secret", "file:secret")...)
	run(false, "keygen", "--alg", "ES384", "--out", "new.pem")
	run(false, "version")
	state, err := os.ReadFile(filepath.Join(folder, "fresh-state"))
	if err != nil {
		t.Fatal(err)
	}
	w.text("state file", string(state))

	server.handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	refused := [][]string{
		at("token", "--secret", accessToken), at("token", "--signer", accessToken), at("token", "--client-secret", accessToken), at("token", "--client-secret="+accessToken),
		at("token", accessToken), at("token", "-"+accessToken), at("token", "--"+accessToken), {"--" + accessToken}, {"completion", "bash", accessToken}, {accessToken}, at("token", "--timeout", accessToken),
		at("token", "--secret", "file:object#client_secret"), at("token", "--secret", "vault-kv://user:"+accessToken+"@m/p#f"), at("token", "--secret", "file:secret?x="+accessToken),
		at("token", "--signer", "file:cut.pem"), at("token", "--signer", "file:secret"), at("token", "--signer", "file:encrypted.pem"),
		at("token", "--signer", "file:encrypted.pem?passphrase="+accessToken), at("token", "--signer", "file:encrypted.pem?passphrase-source="+accessToken),
		at("token", "--signer", "file:encrypted.pem?passphrase-source="+url.QueryEscape("file:secret")), at("token", "--signer", "pkcs11:token=x?pin-value="+accessToken),
		at("token", "--config", "wrong.yaml"), at("token", "--config", "malformed.yaml"), at("token", "--config", "alias.yaml"), at("token", "--config", "tag.yaml"),
		at("token", "--secret", "file:secret", "--state-file", "state"), at("token", "--secret", "file:secret", "--auth-method", accessToken),
		{"token", "--base-url", "https://user:" + accessToken + "@ehr.example.test/r4", "--client-id", "app", "--secret", "file:secret"},
		{"token", "--base-url", "https://ehr.example.test/%zz" + accessToken, "--token-endpoint", "ftp://" + accessToken, "--client-id", "app", "--secret", "file:secret"},
		{"keygen", "--alg", accessToken, "--out", "x"}, {"keygen", accessToken}, {"jwks", "serve", "--signer", accessToken, "--listen", accessToken},
		at("token", "--config", "plugins.yaml", "--secret", "plugin://echo/x"), at("token", "--config", "plugins.yaml", "--signer", "plugin://echo/x"),
	}
	for option, schemes := range map[string][]string{
		"--secret": {"vault-kv://m/p", "awssecretsmanager:///n", "plugin://none/p", "env:NONE", "file:none"},
		"--signer": {"vault-transit://m/k", "awskms:///alias/k", "plugin://none/p", "file:none"},
	} {
		for _, uri := range misplaced(accessToken, schemes) {
			refused = append(refused, at("token", option, uri))
		}
	}
	for _, uri := range pkcs11URIs(filepath.Join(folder, "secret"), hsmPIN, "env:CANARY_PIN")[:4] { // testPKCS11 has all
		refused = append(refused, at("token", "--signer", uri))
	}
	atOnce := make(chan struct{}, 4)
	var running sync.WaitGroup
	for _, args := range refused {
		atOnce <- struct{}{}
		running.Go(func() {
			defer func() { <-atOnce }()
			if out, status := run(false, args...); status == 0 || strings.TrimSpace(out) != "" {
				t.Errorf("smartcred %q: status %d, standard output %q", args, status, out)
			}
		})
	}
	running.Wait()
	for shape := range 2 {
		aws.shape.Store(int32(shape))
		vault.shape.Store(int32(shape))
		for _, args := range [][]string{
			{"--secret", "awssecretsmanager:///smart/app#client_secret"}, {"--signer", "awskms:///alias/smart"}, {"--secret", "vault-kv://secret/smart#client_secret"}, {"--signer", "vault-transit://transit/smart"},
		} {
			if _, status := run(false, at("token", append(args, "--verbose")...)...); status == 0 {
				t.Errorf("token %q: status 0", args)
			}
		}
	}
	run(false, at("check", "--signer", "awskms:///alias/smart")...)
	run(false, "plugin", "check", "--config", "plugins.yaml", "echo")
	if outputs.Load() == 0 {
		t.Error("the command said nothing")
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// backendEnvironment is the environment of a process whose AWS and Vault repeat
// what they get.
func backendEnvironment(t *testing.T, w *watch, aws, vault http.Handler) []string {
	awsSecrets(w)
	for name, value := range map[string]string{"Vault token": vaultToken, "PIN": hsmPIN, "plugin's token": pluginToken} {
		w.secret(name, value)
	}
	awsServer, vaultServer := httptest.NewServer(aws), httptest.NewServer(vault)
	t.Cleanup(awsServer.Close)
	t.Cleanup(vaultServer.Close)
	return []string{
		"AWS_ENDPOINT_URL=" + awsServer.URL, "AWS_REGION=" + awsfake.Region, "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_PROFILE=",
		"AWS_ACCESS_KEY_ID=" + awsfake.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + awsfake.SecretAccessKey, "AWS_SESSION_TOKEN=" + awsSession,
		"VAULT_ADDR=" + vaultServer.URL, "VAULT_TOKEN=" + vaultToken, "VAULT_MAX_RETRIES=0",
	}
}

// misplaced are the URIs with a secret where it should not be, so that none can
// be opened.
func misplaced(secret string, good []string) []string {
	var uris []string
	for _, u := range good {
		scheme, rest, _ := strings.Cut(u, ":")
		uris = append(uris, u+"?token="+secret, scheme+"://user:"+secret+"@"+strings.TrimLeft(rest, "/"))
	}
	return uris
}
