package vaulttest

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/vault/api"
)

func TestServer(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		s := start(t, w)

		t.Run("is the version that vaultserver builds", func(t *testing.T) {
			health, err := s.Root(t).Sys().HealthWithContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(health.Version, "1.21.") {
				t.Errorf("version %s", health.Version)
			}
		})

		t.Run("environment", func(t *testing.T) {
			s.Setenv(t, s.RootToken)
			c, err := api.NewClient(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Auth().Token().LookupSelfWithContext(t.Context()); err != nil {
				t.Error(err)
			}
		})

		t.Run("transit under a policy", func(t *testing.T) {
			mount := s.Transit(t)
			s.Write(t, mount+"/keys/smart", map[string]any{"type": "ecdsa-p384"})
			c := s.Client(t, s.Token(t, `path "`+mount+`/sign/smart" { capabilities = ["update"] }`))
			if _, err := sign(t, c, mount, 1); err != nil {
				t.Error(err)
			}
			_, err := c.Logical().ReadWithContext(t.Context(), mount+"/keys/smart")
			if status(err) != http.StatusForbidden {
				t.Errorf("reading the key: %v, want 403", err)
			}
		})

		t.Run("secrets of both versions", func(t *testing.T) {
			for version, path := range map[int]string{1: "/smart", 2: "/data/smart"} {
				mount := s.KV(t, version)
				data := map[string]any{"client_secret": "s"}
				if version == 2 {
					data = map[string]any{"data": data}
				}
				s.Write(t, mount+path, data)
				secret, err := s.Root(t).Logical().ReadWithContext(t.Context(), mount+path)
				if err != nil {
					t.Fatal(err)
				}
				got := secret.Data
				if version == 2 {
					got = got["data"].(map[string]any)
				}
				if got["client_secret"] != "s" {
					t.Errorf("version %d: %v", version, got)
				}
			}
		})

		t.Run("authentication", func(t *testing.T) {
			mount := s.Auth(t, "approle")
			s.Write(t, "auth/"+mount+"/role/smart", map[string]any{"token_policies": s.Policy(t, `path "x" { capabilities = ["read"] }`)})
			roleID, err := s.Root(t).Logical().ReadWithContext(t.Context(), "auth/"+mount+"/role/smart/role-id")
			if err != nil {
				t.Fatal(err)
			}
			secretID := s.Write(t, "auth/"+mount+"/role/smart/secret-id", nil)
			login, err := s.Client(t, "").Logical().WriteWithContext(t.Context(), "auth/"+mount+"/login", map[string]any{
				"role_id": roleID.Data["role_id"], "secret_id": secretID["secret_id"],
			})
			if err != nil || login.Auth.ClientToken == "" {
				t.Errorf("log in: %v", err)
			}
		})

		t.Run("audit log", func(t *testing.T) {
			mount := s.KV(t, 1)
			s.Write(t, mount+"/audited", map[string]any{"value": "hidden"})
			var types []string
			for _, e := range s.AuditLog(t) {
				if e.Request.Path != mount+"/audited" {
					continue
				}
				types = append(types, e.Type)
				if e.Request.ID == "" || e.Time.IsZero() || strings.Contains(string(e.Raw), "hidden") {
					t.Errorf("entry %s", e.Raw)
				}
			}
			if diff := cmp.Diff([]string{"request", "response"}, types); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})

		t.Run("sealed", func(t *testing.T) {
			s.Seal(t)
			_, err := s.Root(t).Auth().Token().LookupSelfWithContext(t.Context())
			if status(err) != http.StatusServiceUnavailable {
				t.Errorf("sealed: %v, want 503", err)
			}
			s.Unseal(t)
			if _, err := s.Root(t).Auth().Token().LookupSelfWithContext(t.Context()); err != nil {
				t.Errorf("unsealed: %v", err)
			}
		})

		t.Run("stopped", func(t *testing.T) {
			mount := s.KV(t, 1)
			s.Write(t, mount+"/kept", map[string]any{"value": "1"})
			s.Stop(t)
			if _, err := s.Root(t).Sys().HealthWithContext(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("stopped: %v, want connection refused", err)
			}
			s.RestartSealed(t)
			if _, err := s.Root(t).Auth().Token().LookupSelfWithContext(t.Context()); status(err) != http.StatusServiceUnavailable {
				t.Errorf("started sealed: %v, want 503", err)
			}
			s.Stop(t)
			s.Restart(t)
			secret, err := s.Root(t).Logical().ReadWithContext(t.Context(), mount+"/kept")
			if err != nil || secret.Data["value"] != "1" {
				t.Errorf("after the restart: %v, %v", secret, err)
			}
		})

		t.Run("restored with another key under the same version", func(t *testing.T) {
			mount := s.Transit(t)
			s.Write(t, mount+"/keys/smart", map[string]any{"type": "ecdsa-p384"})
			snap := s.Snapshot(t)
			s.Write(t, mount+"/keys/smart/rotate", nil)
			before := publicKeys(t, s, mount)
			s.Restore(t, snap)
			if got := publicKeys(t, s, mount); len(got) != 1 || got["1"] != before["1"] {
				t.Errorf("restored: %d versions", len(got))
			}
			s.Write(t, mount+"/keys/smart/rotate", nil)
			after := publicKeys(t, s, mount)
			if len(before) != 2 || len(after) != 2 || before["2"] == after["2"] {
				t.Errorf("version 2 before and after:\n%s\n%s", before["2"], after["2"])
			}
		})
	})
}

func TestSharedComesBack(t *testing.T) {
	Shared(t).Seal(t)
	s := Shared(t)
	mount := s.Transit(t)
	s.Stop(t)
	if Shared(t) != s {
		t.Fatal("another server")
	}
	s.Write(t, mount+"/keys/smart", map[string]any{"type": "rsa-2048"})
}

func TestCluster(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		c := startCluster(t, w, 2)
		active, standby := c.Active(t), c.Standby(t)
		mount := active.Transit(t)
		active.Write(t, mount+"/keys/smart", map[string]any{"type": "ecdsa-p384"})

		if _, err := sign(t, standby.Root(t), mount, 1); err != nil {
			t.Errorf("the standby forwards: %v", err)
		}

		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, standby.Address+"/v1/"+mount+"/keys/smart", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", standby.RootToken)
		req.Header.Set("X-Vault-No-Request-Forwarding", "true")
		resp, err := standby.Root(t).CloneConfig().HttpClient.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if to := resp.Header.Get("Location"); resp.StatusCode != http.StatusTemporaryRedirect || !strings.HasPrefix(to, active.Address) {
			t.Errorf("the standby redirects: %s to %q", resp.Status, to)
		}

		c.StepDown(t)
		if c.Active(t) != standby || c.Standby(t) != active {
			t.Error("the nodes have not changed roles")
		}
		if _, err := sign(t, active.Root(t), mount, 1); err != nil {
			t.Errorf("after the change: %v", err)
		}
	})
}

func sign(t *testing.T, c *api.Client, mount string, version int) (string, error) {
	t.Helper()
	secret, err := c.Logical().WriteWithContext(t.Context(), mount+"/sign/smart", map[string]any{
		"input":                base64.StdEncoding.EncodeToString(make([]byte, 48)),
		"prehashed":            true,
		"hash_algorithm":       "sha2-384",
		"marshaling_algorithm": "jws",
		"key_version":          version,
	})
	if err != nil {
		return "", err
	}
	return secret.Data["signature"].(string), nil
}

func publicKeys(t *testing.T, s *Server, mount string) map[string]string {
	t.Helper()
	secret, err := s.Root(t).Logical().ReadWithContext(t.Context(), mount+"/keys/smart")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{}
	for version, key := range secret.Data["keys"].(map[string]any) {
		keys[version] = key.(map[string]any)["public_key"].(string)
	}
	return keys
}

// status returns the HTTP status inside an error of the client, or 0.
func status(err error) int {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.StatusCode
}

func TestFreePortsAreBelowTheSystemsOwn(t *testing.T) {
	ports, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Max(ports[:]) >= 32768 {
		t.Errorf("ports %v", ports)
	}
}
