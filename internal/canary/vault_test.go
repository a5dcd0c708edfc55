package canary

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/vaultkv"
	"github.com/smartcred/smartcred/plugins/vaulttransit"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const (
	vaultToken   = "hvs.vT4kW8zR1qX6cN3bM9sL5fJ2"
	vaultSecret  = "6e1f0c9a-wrong-secret-id-47b2d8"
	vaultWrapper = "hvs.wrapping.pQ7mZ2xK9vB4nR8t"
)

// echoVault answers with what it was sent and with the values that a Vault has,
// in the shape and with the status that is set.
type echoVault struct {
	shape  atomic.Int32
	status atomic.Int32
	logins atomic.Bool // logins work, and the question of what is mounted
}

const vaultShapes = 8

func (v *echoVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	echo := fmt.Sprintf("%s %s %v %s", r.Method, r.URL, r.Header, body)
	reply := func(status int, answer any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
	}
	if v.logins.Load() {
		switch {
		case strings.HasSuffix(r.URL.Path, "/login"):
			reply(http.StatusOK, map[string]any{"auth": map[string]any{"client_token": vaultToken, "lease_duration": 3600, "renewable": true}})
			return
		case strings.Contains(r.URL.Path, "/ui/mounts/"):
			reply(http.StatusOK, map[string]any{"data": map[string]any{"path": "secret/", "type": "kv", "options": map[string]any{"version": "2"}}})
			return
		case strings.HasSuffix(r.URL.Path, "wrapping/lookup"):
			reply(http.StatusOK, map[string]any{"data": map[string]any{"creation_path": "auth/approle/role/x/secret-id"}})
			return
		case strings.HasSuffix(r.URL.Path, "wrapping/unwrap"):
			reply(http.StatusOK, map[string]any{"data": map[string]any{"secret_id": vaultSecret}})
			return
		}
	}
	status := int(v.status.Load())
	object := map[string]any{"data": map[string]any{"client_secret": clientSecret, "other": map[string]any{"x": clientSecret}}, "metadata": map[string]any{"version": 2, "created_time": "2030-01-02T03:04:05Z"}}
	switch v.shape.Load() {
	case 0:
		w.WriteHeader(status)
		_, _ = io.WriteString(w, echo)
	case 1:
		reply(status, map[string]any{"errors": []string{echo, clientSecret, "permission denied"}})
	case 2:
		reply(status, map[string]any{"data": object})
	case 3:
		reply(status, map[string]any{"data": map[string]any{"data": clientSecret, "metadata": echo, "signature": "vault:v1:" + clientSecret, "keys": echo, "type": clientSecret}})
	case 4:
		reply(status, map[string]any{"data": map[string]any{"type": "ecdsa-p384", "keys": map[string]any{clientSecret: echo}}})
	case 5:
		key := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(echo)}))
		reply(status, map[string]any{"data": map[string]any{"type": "ecdsa-p384", "keys": map[string]any{"1": map[string]any{"public_key": key, "creation_time": "2030-01-02T03:04:05Z"}}}})
	case 6:
		w.Header().Set("Location", "http://"+clientSecret[:3]+".example.com/"+url.QueryEscape(echo))
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		hijacked, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(hijacked, "HTTP/1.1 "+echo+"\r\n"+clientSecret+"\r\n\r\n")
			_ = hijacked.Close()
		}
	}
}

func testVault(t *testing.T) {
	w := newCommonWatch(t)
	for _, value := range []string{vaultToken, vaultSecret, vaultWrapper} {
		w.secret("a credential of Vault's", value)
	}
	echo := &echoVault{}
	server := httptest.NewServer(echo)
	t.Cleanup(server.Close)
	folder := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("token", vaultToken)
	write("secret-id", vaultSecret)
	write("wrapped", vaultWrapper)
	t.Setenv("VAULT_MAX_RETRIES", "0")
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", vaultToken)
	opts := &secretsource.OpenOptions{Dir: folder, AllowInsecureLoopback: true, Observer: w.observer()}
	key := signer.Key{Version: "1", Algorithm: signer.ES384, Public: newKey(t, w).Public()}

	queries := []string{
		"", "?token_file=token", "?role_id=r&secret_id_file=secret-id", "?role_id=r&wrapped_secret_id_file=wrapped", "?auth=jwt&role=r&jwt_file=secret-id",
		"?role_id=r&secret_id=" + url.QueryEscape(vaultSecret), "?token=" + vaultToken, "?auth=" + vaultToken, "?address=" + url.QueryEscape("https://u:"+vaultToken+"@v"),
		"?token_file=" + url.QueryEscape("none"), "?version=" + vaultToken, "?kv=" + vaultToken, "?mount=" + vaultToken,
	}
	var found, listed bool
	use := func(query string) {
		src, err := secretsource.Open(t.Context(), "vault-kv://secret/smart"+query+"#client_secret", opts)
		w.err("open", err)
		if err == nil {
			src.(interface{ Reset() }).Reset() // what failed before is not waited for
			for stage := range secretsource.Previous + 1 {
				secret, err := src.Lookup(t.Context(), stage)
				w.err("look up", err)
				found = found || string(secret.Reveal()) == clientSecret
				w.value("secret", secret)
			}
			w.value("source", src)
			w.err("close", src.(io.Closer).Close())
			_, err = src.Lookup(t.Context(), secretsource.Current)
			w.err("closed", err)
		}
		s, err := signer.Open(t.Context(), "vault-transit://transit/smart"+query, &signer.OpenOptions{OpenOptions: *opts})
		w.err("open", err)
		if err == nil {
			s.(interface{ Reset() }).Reset()
			_, err = s.Keys(t.Context())
			w.err("list", err)
			listed = listed || errors.Is(err, smartcred.ErrDenied)
			_, err = s.Sign(t.Context(), key, []byte("input"))
			w.err("sign", err)
			w.value("signer", s)
			w.err("close", s.(io.Closer).Close())
		}
	}
	for shape := range vaultShapes {
		echo.shape.Store(int32(shape))
		statuses := []int{200, 400, 403, 404, 429, 500, 503}
		switch {
		case shape >= vaultShapes-2: // its status is its own
			statuses = statuses[:1]
		case shape >= 4: // what a success says
			statuses = statuses[:2]
		}
		for _, status := range statuses {
			echo.status.Store(int32(status))
			for i, query := range queries[:5] {
				echo.logins.Store(i != 1)
				use(query)
				if i >= 2 { // it logs in
					echo.logins.Store(false)
					use(query)
				}
			}
		}
	}
	for _, query := range queries[5:] {
		use(query)
	}

	if !found || !listed {
		t.Error("Vault was not asked")
	}

	client, err := api.NewClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := vaulttransit.New(client, "smart", &vaulttransit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.value("signer", s)
	src, err := vaultkv.New(client, "smart", "client_secret", &vaultkv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w.value("source", src)
	_, err = vaulttransit.New(client, "smart/"+vaultToken, nil)
	w.err("new", err)
}
