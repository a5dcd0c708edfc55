package vault

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The policies of docs/vault.md are the ones that are tested here, but for the
// names of mount and secret.
func TestPageHasTheLeastPolicies(t *testing.T) {
	text, err := os.ReadFile("../../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	for block, c := range map[string]struct{ tested, mount, secret, name string }{
		"transit": {tested: transitPolicy, mount: "transit"},
		"kv":      {tested: kvPolicy, mount: "secret", secret: "team/smart", name: "smart"},
	} {
		_, rest, found := strings.Cut(string(text), "```hcl "+block+"\n")
		shown, _, ended := strings.Cut(rest, "```")
		if !found || !ended {
			t.Errorf("the page has no policy %s", block)
			continue
		}
		want := strings.TrimPrefix(policy(c.tested, c.mount), "\n")
		if c.secret != "" {
			want = strings.ReplaceAll(want, c.secret, c.name)
		}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("%s (-tested +shown):\n%s", block, diff)
		}
	}
}
