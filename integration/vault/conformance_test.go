package vault

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/plugins/vaultkv"
	"github.com/smartcred/smartcred/plugins/vaulttransit"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

// faults are what can be done to a Vault behind a front.
type faults struct {
	front *vaulttest.Front
}

// deny answers as Vault does to a token whose policies allow nothing.
func (f faults) deny(*testing.T) func() {
	f.front.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`))
	}))
	return f.front.Pass
}

func (f faults) stall(*testing.T) func() {
	f.front.Stall()
	return f.front.Pass
}

func (f faults) garble(*testing.T) func() {
	f.front.Garble(http.StatusOK)
	return f.front.Pass
}

func (f faults) garbleErrors(*testing.T) func() {
	f.front.Garble(http.StatusInternalServerError)
	return f.front.Pass
}

func TestTransitConforms(t *testing.T) {
	s := vaulttest.Shared(t)
	t.Setenv("VAULT_CACERT", s.CACert)
	for _, keyType := range []string{"ecdsa-p384", "rsa-2048"} {
		t.Run(keyType, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) *signertest.Harness {
				mount := transitKey(t, s, keyType)
				token := s.Token(t, policy(transitPolicy, mount))
				front := vaulttest.NewFront(t, s)
				f := faults{front: front}
				uri := "vault-transit://" + mount + "/smart" + query(map[string]string{"address": front.Address, "token_file": tokenFile(t, token)})
				return &signertest.Harness{
					Open: func(t *testing.T) signer.Signer {
						opened, err := signer.Open(t.Context(), uri, nil)
						if err != nil {
							t.Fatal(err)
						}
						return opened
					},
					Rotate: func(t *testing.T) { s.Write(t, mount+"/keys/smart/rotate", nil) },
					Disable: func(t *testing.T, version string) {
						n, err := strconv.Atoi(version)
						if err != nil {
							t.Fatal(err)
						}
						if n == 1 {
							if keys, err := s.Root(t).Logical().Read(mount + "/keys/smart"); err != nil || keys.Data["latest_version"].(interface{ String() string }).String() == "1" {
								t.Fatalf("only one version: %v", err)
							}
						}
						s.Write(t, mount+"/keys/smart/config", map[string]any{"min_encryption_version": n + 1})
					},
					Deny: f.deny, Stall: f.stall, Garble: f.garble,
					Stop: func(t *testing.T) func() {
						front.AnswerStatus(http.StatusServiceUnavailable)
						return front.Pass
					},
					Secrets: []string{token},
				}
			})
		})
	}
}

// A client of the user's own, and garbage with an error's status.
func TestTransitWithClientConforms(t *testing.T) {
	s := vaulttest.Shared(t)
	signertest.Run(t, func(t *testing.T) *signertest.Harness {
		mount := transitKey(t, s, "ecdsa-p384")
		token := s.Token(t, policy(transitPolicy, mount))
		front := vaulttest.NewFront(t, s)
		client := s.Client(t, token)
		if err := client.SetAddress(front.Address); err != nil {
			t.Fatal(err)
		}
		f := faults{front: front}
		return &signertest.Harness{
			Open: func(t *testing.T) signer.Signer {
				opened, err := vaulttransit.New(client, "smart", &vaulttransit.Options{Mount: mount})
				if err != nil {
					t.Fatal(err)
				}
				return opened
			},
			Rotate: func(t *testing.T) { s.Write(t, mount+"/keys/smart/rotate", nil) },
			Deny:   f.deny, Stall: f.stall, Garble: f.garbleErrors,
			Stop:    func(t *testing.T) func() { front.CutAnswers(); return front.Pass },
			Secrets: []string{token},
		}
	})
}

func TestKVConforms(t *testing.T) {
	s := vaulttest.Shared(t)
	t.Setenv("VAULT_CACERT", s.CACert)
	for _, c := range []struct {
		name    string
		version int
		stated  string // kv option
	}{
		{"version 2", 2, ""},
		{"version 2 stated", 2, "2"},
		{"version 1", 1, ""},
		{"version 1 stated", 1, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
				mount := s.KV(t, c.version)
				hcl, data := policy(kvPolicy, mount), mount+"/data/team/smart"
				if c.version == 1 {
					hcl, data = policy(kv1Policy, mount), mount+"/team/smart"
				}
				token := s.Token(t, hcl)
				front := vaulttest.NewFront(t, s)
				f := faults{front: front}
				options := map[string]string{"address": front.Address, "token_file": tokenFile(t, token)}
				if c.stated != "" {
					options["kv"] = c.stated
				}
				uri := "vault-kv://" + mount + "/team/smart" + query(options) + "#client_secret"
				return &secretsourcetest.Harness{
					Open: func(t *testing.T) secretsource.Source {
						opened, err := secretsource.Open(t.Context(), uri, nil)
						if err != nil {
							t.Fatal(err)
						}
						return opened
					},
					Set: func(t *testing.T, value string) {
						fields := map[string]any{"client_secret": value, "client_id": "my-app"}
						if c.version == 2 {
							fields = map[string]any{"data": fields}
						}
						s.Write(t, data, fields)
					},
					HasPrevious: c.version == 2,
					Remove: func(t *testing.T) {
						if _, err := s.Root(t).Logical().Delete(data); err != nil {
							t.Fatal(err)
						}
					},
					Deny: f.deny, Stall: f.stall, Garble: f.garble,
					Stop:    func(t *testing.T) func() { front.AnswerStatus(http.StatusServiceUnavailable); return front.Pass },
					Secrets: []string{token},
				}
			})
		})
	}
}

func TestKVWithClientConforms(t *testing.T) {
	s := vaulttest.Shared(t)
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		mount := s.KV(t, 2)
		token := s.Token(t, policy(kvPolicy, mount))
		front := vaulttest.NewFront(t, s)
		client := s.Client(t, token)
		if err := client.SetAddress(front.Address); err != nil {
			t.Fatal(err)
		}
		f := faults{front: front}
		return &secretsourcetest.Harness{
			Open: func(t *testing.T) secretsource.Source {
				opened, err := vaultkv.New(client, "team/smart", "client_secret", &vaultkv.Options{Mount: mount})
				if err != nil {
					t.Fatal(err)
				}
				return opened
			},
			Set: func(t *testing.T, value string) {
				s.Write(t, mount+"/data/team/smart", map[string]any{"data": map[string]any{"client_secret": value}})
			},
			HasPrevious: true,
			Deny:        f.deny, Stall: f.stall, Garble: f.garbleErrors,
			Stop:    func(t *testing.T) func() { front.CutAnswers(); return front.Pass },
			Secrets: []string{token},
		}
	})
}
