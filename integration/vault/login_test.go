package vault

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// A loginBed is a Transit key behind a front that counts, with its policy.
type loginBed struct {
	vault  *vaulttest.Server
	front  *vaulttest.Front
	mount  string
	policy string // name
}

// newLoginBed sets the environment that clients read, but for VAULT_ADDR: the
// front is named by address=.
func newLoginBed(t *testing.T) *loginBed {
	t.Helper()
	s := vaulttest.Shared(t)
	t.Setenv("VAULT_CACERT", s.CACert)
	return newLoginBedAt(t, s)
}

func newLoginBedAt(t *testing.T, s *vaulttest.Server) *loginBed {
	t.Helper()
	b := &loginBed{vault: s, front: vaulttest.NewFront(t, s), mount: transitKey(t, s, "ecdsa-p384")}
	b.policy = s.Policy(t, policy(transitPolicy, b.mount))
	return b
}

func (b *loginBed) uri(options map[string]string) string {
	all := map[string]string{"address": b.front.Address}
	for name, value := range options {
		all[name] = value
	}
	return "vault-transit://" + b.mount + "/smart" + query(all)
}

func (b *loginBed) open(t *testing.T, options map[string]string, observer smartcred.Observer) signer.Signer {
	t.Helper()
	return openSigner(t, b.uri(options), &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{Observer: observer}})
}

// sentToken is the token of the last request.
func (b *loginBed) sentToken(t *testing.T) string {
	t.Helper()
	requests := b.front.Requests()
	return requests[len(requests)-1].Header.Get("X-Vault-Token")
}

// An appRole is a role of an AppRole mount of the test's own.
type appRole struct {
	bed        *loginBed
	mount, id  string
	name, path string
}

// newAppRole makes a role whose tokens may use the bed's key; settings are its
// other settings.
func newAppRole(t *testing.T, b *loginBed, settings map[string]any) *appRole {
	t.Helper()
	r := &appRole{bed: b, mount: b.vault.Auth(t, "approle"), name: "smart"}
	r.path = "auth/" + r.mount + "/role/" + r.name
	all := map[string]any{"token_policies": b.policy, "token_ttl": "20m"}
	for name, value := range settings {
		all[name] = value
	}
	b.vault.Write(t, r.path, all)
	id, err := b.vault.Root(t).Logical().Read(r.path + "/role-id")
	if err != nil {
		t.Fatal(err)
	}
	r.id = id.Data["role_id"].(string)
	return r
}

func (r *appRole) newSecretID(t *testing.T) string {
	t.Helper()
	return r.bed.vault.Write(t, r.path+"/secret-id", nil)["secret_id"].(string)
}

// options are those of a URI that logs in to the role, with more.
func (r *appRole) options(more map[string]string) map[string]string {
	all := map[string]string{"auth_mount": r.mount, "role_id": r.id}
	for name, value := range more {
		if value == "" {
			delete(all, name)
			continue
		}
		all[name] = value
	}
	return all
}

func (r *appRole) logins() int { return r.bed.front.Count("", "auth/"+r.mount+"/login") }

// works checks that s signs.
func works(t *testing.T, s signer.Signer) {
	t.Helper()
	if err := signOnce(t, s, firstKey(t, s)); err != nil {
		t.Error(err)
	}
}

func TestTokenFromEnvironment(t *testing.T) {
	b := newLoginBed(t)
	token := b.vault.Token(t, policy(transitPolicy, b.mount))
	t.Setenv("VAULT_TOKEN", token)
	t.Setenv("VAULT_ADDR", b.front.Address)
	works(t, openSigner(t, "vault-transit://"+b.mount+"/smart", nil))
	works(t, openSigner(t, b.uri(nil), nil)) // the same address, stated

	other := vaulttest.NewFront(t, b.vault)
	_, err := signer.Open(t.Context(), "vault-transit://"+b.mount+"/smart"+query(map[string]string{"address": other.Address}), nil)
	if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "VAULT_ADDR") {
		t.Errorf("for another address: %v, want ErrInvalidConfig that names VAULT_ADDR", err)
	}
	t.Setenv("VAULT_ADDR", "")
	if _, err := signer.Open(t.Context(), b.uri(nil), nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("without VAULT_ADDR: %v, want ErrInvalidConfig", err)
	}
	if n := len(other.Requests()); n > 0 {
		t.Errorf("%d requests went to another address", n)
	}
}

// What else the environment holds for VAULT_ADDR goes nowhere else.
func TestEnvironmentIsForItsAddressOnly(t *testing.T) {
	b := newLoginBed(t)
	file := tokenFile(t, b.vault.Token(t, policy(transitPolicy, b.mount)))
	t.Setenv("VAULT_HEADERS", `{"X-Gateway-Key":"gateway-key"}`)
	t.Setenv("VAULT_TOKEN", "another-token")
	sent := func() http.Header {
		b.front.Reset()
		s, err := signer.Open(t.Context(), b.uri(map[string]string{"token_file": file}), nil)
		if err != nil {
			t.Fatal(err)
		}
		firstKey(t, s)
		if err := s.(interface{ Close() error }).Close(); err != nil {
			t.Error(err)
		}
		return b.front.Requests()[0].Header
	}
	t.Setenv("VAULT_ADDR", b.vault.Address)
	if h := sent(); h.Get("X-Gateway-Key") != "" || h.Get("X-Vault-Token") == "another-token" {
		t.Error("VAULT_HEADERS or VAULT_TOKEN went to another address than VAULT_ADDR")
	}
	t.Setenv("VAULT_ADDR", b.front.Address)
	if h := sent(); h.Get("X-Gateway-Key") != "gateway-key" || h.Get("X-Vault-Token") == "another-token" {
		t.Error("VAULT_HEADERS did not go to VAULT_ADDR, or VAULT_TOKEN took the file's place")
	}
}

// Vault Agent replaces the file; the program goes on with the new token, whether
// the old one still works or not.
func TestTokenFileIsReplaced(t *testing.T) {
	b := newLoginBed(t)
	newToken := func() string { return b.vault.Token(t, policy(transitPolicy, b.mount)) }
	first, second, third := newToken(), newToken(), newToken()
	path := tokenFile(t, first)
	s := b.open(t, map[string]string{"token_file": path}, smartcred.Discard)
	works(t, s)
	writeFile(t, path, second+"\n")
	works(t, s)
	if b.sentToken(t) != second {
		t.Error("the file was replaced, and the old token sent")
	}
	b.revoke(t, second)
	if err := signOnce(t, s, firstKeyOf(t, b)); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("with a revoked token: %v, want ErrDenied", err)
	}
	writeFile(t, path, third)
	works(t, s)
	writeFile(t, path, second+"\n"+first+"\n")
	works(t, s)
	if b.sentToken(t) != third {
		t.Error("the file holds no token any more, and another was sent than the one that was in it")
	}
	other := tokenFile(t, second+"\n"+first)
	_, err := b.open(t, map[string]string{"token_file": other}, smartcred.Discard).Keys(t.Context())
	saying(t, err, smartcred.ErrInvalidConfig, other, "holds more than a token")
}

// Vault answers 403 to a login where no auth method is mounted.
func TestLoginWhereNothingIsMounted(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	options := r.options(map[string]string{"auth_mount": r.mount + "-not", "secret_id_file": tokenFile(t, r.newSecretID(t))})
	_, err := b.open(t, options, smartcred.Discard).Keys(t.Context())
	saying(t, err, smartcred.ErrDenied, "auth/"+r.mount+"-not/login", "check that the auth method is mounted there")
}

func (b *loginBed) revoke(t *testing.T, token string) {
	t.Helper()
	b.vault.Write(t, "auth/token/revoke", map[string]any{"token": token})
}

// firstKeyOf lists with a token of its own.
func firstKeyOf(t *testing.T, b *loginBed) signer.Key {
	t.Helper()
	return firstKey(t, b.open(t, map[string]string{"token_file": tokenFile(t, b.vault.Token(t, policy(transitPolicy, b.mount)))}, smartcred.Discard))
}

// Role id and secret id come from anywhere.
func TestAppRole(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	t.Setenv("SMART_ROLE_ID", r.id)
	t.Setenv("SMART_SECRET_ID", r.newSecretID(t))
	file := func(text string) string { return tokenFile(t, text) }
	kv, inKV := kvSecret(t, b.vault, 2, map[string]string{"address": b.front.Address})
	putSecret(t, b.vault, kv, 2, r.newSecretID(t))
	for name, options := range map[string]map[string]string{
		"secret id in a file":             {"secret_id_file": file(r.newSecretID(t))},
		"secret id by file URI":           {"secret_id": "file:" + file(r.newSecretID(t))},
		"secret id by env URI":            {"secret_id": "env:SMART_SECRET_ID"},
		"secret id by vault-kv URI":       {"secret_id": inKV},
		"role id in a file":               {"role_id": "", "role_id_file": file(r.id), "secret_id": "env:SMART_SECRET_ID"},
		"role id by env URI":              {"role_id": "env:SMART_ROLE_ID", "secret_id": "env:SMART_SECRET_ID"},
		"auth stated":                     {"auth": "approle", "secret_id": "env:SMART_SECRET_ID"},
		"role named, secret id unwrapped": {"role": r.name, "wrapped_secret_id_file": file(r.wrap(t))},
	} {
		t.Run(name, func(t *testing.T) {
			works(t, b.open(t, r.options(options), smartcred.Discard))
			for _, request := range b.front.Requests() {
				if request.Header.Get("X-Vault-Request") == "" {
					t.Errorf("%s %s without X-Vault-Request, which Vault Agent wants", request.Method, request.Path)
				}
			}
		})
	}
}

// Namespaces are Vault Enterprise's; the header is what a client has to do with them.
func TestNamespaceIsSent(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	b.front.AnswerStatus(http.StatusServiceUnavailable)
	sent := func(options map[string]string) {
		t.Helper()
		b.front.Reset()
		s := b.open(t, r.options(options), smartcred.Discard)
		if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		for _, request := range b.front.Requests() {
			if got := request.Header.Get("X-Vault-Namespace"); got != "hospital/smart" {
				t.Errorf("%s %s with namespace %q", request.Method, request.Path, got)
			}
		}
	}
	t.Setenv("VAULT_MAX_RETRIES", "0")
	sent(map[string]string{"namespace": "hospital/smart", "secret_id_file": tokenFile(t, "x")})
	t.Setenv("VAULT_ADDR", b.front.Address)
	t.Setenv("VAULT_NAMESPACE", "hospital/smart")
	sent(map[string]string{"secret_id_file": tokenFile(t, "y")})
	t.Setenv("VAULT_NAMESPACE", "elsewhere")
	sent(map[string]string{"namespace": "hospital/smart", "secret_id_file": tokenFile(t, "z")})
}
