package smartcred_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// coreModules is the closed list of modules that an application compiles when it
// keeps its credentials in files. It grows only on purpose.
var coreModules = []string{
	"github.com/coreos/go-oidc/v3",
	"github.com/go-jose/go-jose/v4",
	"github.com/golang-jwt/jwt/v5",
	"github.com/smartcred/smartcred",
	"github.com/youmark/pkcs8",
	"golang.org/x/crypto",
	"golang.org/x/oauth2",
	"golang.org/x/sync",
}

func TestCoreReachesOnlyTheListedModules(t *testing.T) {
	for _, module := range list(t, "{{with .Module}}{{.Path}}{{end}}", "-deps", "./smartauth", "./provider", "./signer", "./secretsource") {
		if !slices.Contains(coreModules, module) {
			t.Errorf("the core reaches %s, which is not on its list", module)
		}
	}
}

func TestRootReachesTheStandardLibraryOnly(t *testing.T) {
	for _, module := range list(t, "{{with .Module}}{{.Path}}{{end}}", "-deps", ".") {
		if module != "github.com/smartcred/smartcred" {
			t.Errorf("the root package reaches %s", module)
		}
	}
}

// Imports run one way: smartauth → provider → signer → secretsource → root.
func TestImportsRunOneWay(t *testing.T) {
	const prefix = "github.com/smartcred/smartcred/"
	order := []string{"secretsource", "signer", "provider", "smartauth"}
	for i, name := range order {
		deps := list(t, "{{.ImportPath}}", "-deps", "./"+name)
		for _, later := range append(slices.Clone(order[i+1:]), "smartauth/smartauthtest", "plugins", "cmd", "examples") {
			for _, dep := range deps {
				if rest, ok := strings.CutPrefix(dep, prefix+later); ok && (rest == "" || rest[0] == '/') && dep != prefix+name {
					t.Errorf("%s imports %s", name, dep)
				}
			}
		}
	}
}

func list(t *testing.T, format string, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-f", format}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Fields(string(out))
	if len(lines) == 0 {
		t.Fatal("go list: no packages")
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
