package vault

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"

	_ "github.com/smartcred/smartcred/plugins/vaultkv"
	_ "github.com/smartcred/smartcred/plugins/vaulttransit"
)

// The least policies, as docs/vault.md has them.
const (
	transitPolicy = `
path "%[1]s/keys/smart" {
  capabilities = ["read"]
}
path "%[1]s/sign/smart" {
  capabilities = ["update"]
}
`
	kvPolicy = `
path "%[1]s/data/team/smart" {
  capabilities = ["read"]
}
`
	kv1Policy = `
path "%[1]s/team/smart" {
  capabilities = ["read"]
}
`
)

// transitKey makes the key "smart" in a mount of the test's own.
func transitKey(t testing.TB, s *vaulttest.Server, keyType string) (mount string) {
	t.Helper()
	mount = s.Transit(t)
	s.Write(t, mount+"/keys/smart", map[string]any{"type": keyType})
	return mount
}

// tokenFile puts a token where Vault Agent would.
func tokenFile(t testing.TB, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	writeFile(t, path, token)
	return path
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// query writes options as a URI's query.
func query(options map[string]string) string {
	values := url.Values{}
	for name, value := range options {
		values.Set(name, value)
	}
	return "?" + values.Encode()
}

func openSigner(t testing.TB, uri string, opts *signer.OpenOptions) signer.Signer {
	t.Helper()
	s, err := signer.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	return s
}

func openSource(t testing.TB, uri string) secretsource.Source {
	t.Helper()
	s, err := secretsource.Open(t.Context(), uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	return s
}

func closeAtEnd(t testing.TB, v any) {
	t.Cleanup(func() {
		if err := v.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
}

func policy(format, mount string) string { return fmt.Sprintf(format, mount) }

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// tokenRequest asks for a token that is renewable and lives so long.
func tokenRequest(policy, ttl string) *api.TokenCreateRequest {
	return &api.TokenCreateRequest{Policies: []string{policy}, TTL: ttl}
}
