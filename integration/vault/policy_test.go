package vault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// denied fails unless err is ErrDenied and names the capability and the path that
// the policy lacks.
func denied(t *testing.T, err error, capability, path string) {
	t.Helper()
	if !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
		return
	}
	for _, name := range []string{capability, path} {
		if !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("%v does not name %q", err, name)
		}
	}
}

// rights are the parts of a policy: its path blocks.
func rights(hcl string) []string {
	var blocks []string
	for block := range strings.SplitAfterSeq(strings.TrimSpace(hcl), "}\n") {
		if block = strings.TrimSpace(block); block != "" {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// without is the policy without one of its blocks, and with a right that does no
// good, so that it is never empty.
func without(hcl string, block int) string {
	blocks := rights(hcl)
	blocks[block] = `path "elsewhere" { capabilities = ["read"] }`
	return strings.Join(blocks, "\n")
}

func signOnce(t *testing.T, s signer.Signer, key signer.Key) error {
	t.Helper()
	sig, err := s.Sign(t.Context(), key, []byte("header.claims"))
	if err == nil {
		err = signer.Verify(key, []byte("header.claims"), sig)
	}
	return err
}

// firstKey is the newest key that s lists.
func firstKey(t *testing.T, s signer.Signer) signer.Key {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

func TestLeastPolicyOfTransit(t *testing.T) {
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	mount := transitKey(t, s, "ecdsa-p384")
	open := func(hcl string) signer.Signer {
		return openSigner(t, "vault-transit://"+mount+"/smart"+query(map[string]string{"token_file": tokenFile(t, s.Token(t, hcl))}), nil)
	}
	least := policy(transitPolicy, mount)
	if n := len(rights(least)); n != 2 {
		t.Fatalf("the policy has %d blocks, and this test takes 2 away", n)
	}
	enough := open(least)
	key := firstKey(t, enough)
	if err := signOnce(t, enough, key); err != nil {
		t.Errorf("with the least policy: %v", err)
	}

	withoutRead := open(without(least, 0))
	_, err := withoutRead.Keys(t.Context())
	denied(t, err, "read", mount+"/keys/smart")
	if err := signOnce(t, withoutRead, key); err != nil {
		t.Errorf("without read: %v", err)
	}
	withoutSign := open(without(least, 1))
	firstKey(t, withoutSign)
	denied(t, signOnce(t, withoutSign, key), "update", mount+"/sign/smart")
}

func TestLeastPolicyOfKV(t *testing.T) {
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	for _, c := range []struct {
		name, least, path string
		version           int
	}{
		{"version 1", kv1Policy, "/team/smart", 1},
		{"version 2", kvPolicy, "/data/team/smart", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			mount := s.KV(t, c.version)
			putSecret(t, s, mount, c.version, "secret-0")
			putSecret(t, s, mount, c.version, "secret-1")
			least := policy(c.least, mount)
			if n := len(rights(least)); n != 1 {
				t.Fatalf("the policy has %d blocks, and this test takes 1 away", n)
			}
			open := func(hcl string, options map[string]string) secretsource.Source {
				options["token_file"] = tokenFile(t, s.Token(t, hcl))
				return openSource(t, "vault-kv://"+mount+"/team/smart"+query(options)+"#client_secret")
			}
			enough := open(least, map[string]string{})
			if secret, err := enough.Lookup(t.Context(), secretsource.Current); err != nil || string(secret.Reveal()) != "secret-1" {
				t.Errorf("current: %v", err)
			}
			if secret, err := enough.Lookup(t.Context(), secretsource.Previous); c.version == 2 && (err != nil || string(secret.Reveal()) != "secret-0") {
				t.Errorf("previous: %v", err)
			}
			for name, options := range map[string]map[string]string{
				"version stated": {"kv": fmt.Sprint(c.version)},
				"version found":  {},
			} {
				t.Run(name, func(t *testing.T) {
					_, err := open(without(least, 0), options).Lookup(t.Context(), secretsource.Current)
					denied(t, err, "read", mount+c.path)
				})
			}
		})
	}
}
