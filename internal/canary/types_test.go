package canary

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// secretTypes hold, or are given, something secret: the test prints and encodes
// a value of each.
var secretTypes = []string{
	"secretsource.Secret", "secretsource.Cache", "secretsource.OpenOptions", "secretsource.CacheStatus",
	"signer.CryptoSigner", "signer.FileSigner", "signer.FileOptions", "signer.KeySet", "signer.OpenOptions",
	"rotation.Candidate", "rotation.Engine", "rotation.FileMemory", "rotation.Status",
	"provider.Config", "provider.Credential", "provider.CredentialOptions", "provider.ClientSecretBasic", "provider.ClientSecretPost",
	"provider.PrivateKeyJWT", "provider.RotationOptions", "provider.Status",
	"smartauth.Client", "smartauth.Config", "smartauth.Identity", "smartauth.Introspection", "smartauth.IntrospectOptions",
	"smartauth.Launch", "smartauth.Token", "smartauth.TokenSource", "signer.Key", "signer.JWK",
	"vaultkv.Source", "vaulttransit.Signer", "awskms.Signer", "awssecretsmanager.Source", "pkcs11.Options", "pkcs11.Signer",
	"secretrotator.Value", "secretrotator.Change", "secretrotator.Event", "secretrotator.Hook", "secretrotator.Registration", "secretrotator.TokenTest", "secretrotator.Rotator",
}

// plainTypes hold nothing secret: names, times, numbers, what a server or a
// configuration says in the open, and errors and events, all of which the test
// looks at wherever one comes.
var plainTypes = []string{
	"smartcred.UnavailableError", "smartcred.ConfigError", "smartcred.Event",
	"secretsource.CacheOptions", "secretsource.FingerprintKey",
	"signer.Assertion", "signer.Claims", "signer.CryptoSignerOptions", "signer.JWKSet", "signer.KeySetOptions", "signer.Candidate", "signer.Custody",
	"rotation.Scope", "rotation.Call", "rotation.NotSentError", "rotation.RefusedError", "rotation.Attempt", "rotation.Options", "rotation.Policy", "rotation.Known",
	"provider.TokenError", "provider.CredentialError", "provider.PrivateKeyJWTOptions", "provider.Request", "provider.Public", "provider.SecretOptions",
	"smartauth.CallbackError", "smartauth.TokenOptions", "smartauth.TokenRequest", "smartauth.Configuration", "smartauth.AssociatedEndpoint", "smartauth.Identifier",
	"smartauth.ServerError", "smartauth.LaunchOptions", "smartauth.Scope", "smartauth.SessionOptions", "smartauth.LaunchContext", "smartauth.ContextReference", "smartauth.Violation",
	"vaultkv.Options", "vaulttransit.Options", "awskms.Options", "awssecretsmanager.Options", "pkcs11.KeySelector", "pkcs11.TokenSelector",
	"secretrotator.Options", "secretrotator.HookOptions", "secretrotator.RegistrationOptions", "secretrotator.TokenTestOptions", "secretrotator.StoreError",
	"secretsource.Plugin", "program.Finding", "program.Inspection", "pluginmain.Plugin",
}

// otherPackages have no values that a program with real credentials holds.
var otherPackages = []string{
	"smartauthtest",                  // a server for tests: its records are what it was sent
	"signertest", "secretsourcetest", // kits: what they hold is made up
}

// testTypes fails for an exported type that nobody has classified, for one that
// no longer exists, and for one that holds something secret and was not printed.
func testTypes(t *testing.T, printed map[string]bool) {
	declared := exportedTypes(t)
	for _, name := range declared {
		if !slices.Contains(secretTypes, name) && !slices.Contains(plainTypes, name) {
			t.Errorf("%s is new: does it hold anything secret? List it in secretTypes and print one, or in plainTypes", name)
		}
	}
	for _, name := range slices.Concat(secretTypes, plainTypes) {
		if !slices.Contains(declared, name) {
			t.Errorf("%s does not exist any more", name)
		}
	}
	for _, name := range secretTypes {
		if !printed[name] {
			t.Errorf("%s was not printed", name)
		}
	}
	if len(declared) < 50 {
		t.Errorf("%d types found", len(declared))
	}
}

// exportedTypes are the exported types of public packages that can hold bytes or
// text: structs, slices, arrays and maps.
func exportedTypes(t *testing.T) []string {
	var names []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"internal", "cmd", "examples", "integration", "testdata", "docs"}, name)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if slices.Contains(otherPackages, file.Name.Name) {
			return nil
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				_, isFunc := n.(*ast.FuncDecl)
				return !isFunc
			}
			switch spec.Type.(type) {
			case *ast.StructType, *ast.ArrayType, *ast.MapType:
				if spec.Name.IsExported() && !spec.Assign.IsValid() {
					names = append(names, file.Name.Name+"."+spec.Name.Name)
				}
			}
			return false
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
