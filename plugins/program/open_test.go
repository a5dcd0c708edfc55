//go:build unix

package program

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func TestOpenRefuses(t *testing.T) {
	b := newBench(t)
	for name, tt := range map[string]struct {
		uri, says string
		change    func(*secretsource.OpenOptions)
	}{
		"nothing allowed": {uri: "plugin://test", says: "plugins.test: is not allowed", change: func(o *secretsource.OpenOptions) { o.Plugins = nil }},
		"another":         {uri: "plugin://other/x", says: "plugins.other: is not allowed"},
		"not on PATH":     {uri: "plugin://other", says: "smartcred-plugin-other into a folder of PATH", change: func(o *secretsource.OpenOptions) { o.PathPlugins = true }},
		"separator":       {uri: "plugin://..%2Fetc/x", says: "not a valid URI"},
		"no name":         {uri: "plugin:///etc/passwd", says: "not of the form plugin://NAME"},
		"opaque":          {uri: "plugin:test", says: "not of the form plugin://NAME"},
		"dots":            {uri: "plugin://../x", says: "not of the form plugin://NAME"},
		"capitals":        {uri: "plugin://Test", says: "plugins.Test: is not allowed"},
		"user":            {uri: "plugin://s3cr3t@test", says: "not of the form plugin://NAME"},
		"port":            {uri: "plugin://test:1/x", says: "not of the form plugin://NAME"},
		"option twice":    {uri: "plugin://test?pin=s3cr3t&pin=s3cr3t", says: "given twice"},
		"no path":         {uri: "plugin://test", says: "has no path", change: func(o *secretsource.OpenOptions) { o.Plugins["test"] = secretsource.Plugin{} }},
		"variable's value": {uri: "plugin://test", says: "takes names of variables", change: func(o *secretsource.OpenOptions) {
			o.Plugins["test"] = secretsource.Plugin{Path: b.path, Env: []string{"A=s3cr3t"}}
		}},
		"signer with field": {uri: "plugin://test#field", says: "has no fields"},
	} {
		t.Run(name, func(t *testing.T) {
			o := b.options()
			if tt.change != nil {
				tt.change(&o)
			}
			_, err := secretsource.Open(t.Context(), tt.uri, &o)
			if name == "signer with field" {
				_, err = signer.Open(t.Context(), tt.uri, &signer.OpenOptions{OpenOptions: o})
			}
			if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("Open = %v, want %q", err, tt.says)
			}
		})
	}
}

func TestOnPath(t *testing.T) {
	b := newBench(t)
	b.set(`{"field": "value"}`)
	t.Setenv("PATH", filepath.Dir(b.path)+string(os.PathListSeparator)+os.Getenv("PATH"))
	o := secretsource.OpenOptions{PathPlugins: true, Observer: smartcred.Discard}
	src, err := secretsource.Open(t.Context(), "plugin://test/x#field", &o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.(io.Closer).Close()
	// It has no environment at all, so it is no plugin with a folder.
	if _, err := src.Lookup(t.Context(), secretsource.Current); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("Lookup = %v", err)
	}
	o.Plugins = b.options().Plugins
	allowed, err := secretsource.Open(t.Context(), "plugin://test/x#field", &o)
	if err != nil {
		t.Fatal(err)
	}
	defer allowed.(io.Closer).Close()
	if got := word(t, allowed); got != "value" {
		t.Errorf("the field is %q", got)
	}
}

func TestUnknownOptionsAreTheProgramsToRefuse(t *testing.T) {
	b := newBench(t)
	b.set("value")
	o := b.options()
	src, err := secretsource.Open(t.Context(), "plugin://test?colour=s3cr3t", &o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.(io.Closer).Close()
	_, err = src.Lookup(t.Context(), secretsource.Current)
	if !errors.Is(err, smartcred.ErrInvalidConfig) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("Lookup = %v", err)
	}
}

func TestInspect(t *testing.T) {
	for mode, broken := range map[string]int{"": 0, "hello garbage": 1, "hello version": 1, "hello crash": 1} {
		t.Run(mode, func(t *testing.T) {
			b := newBench(t)
			b.is(mode)
			o := b.options()
			i, err := Inspect(t.Context(), "plugin://test/x", &o)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, f := range i.Findings {
				if f.Err != nil {
					n++
					t.Logf("%s: %v", f.Promise, f.Err)
				}
			}
			if n != broken || broken == 0 && (!i.LongLived || !i.Signer || !i.Source || len(i.Findings) != 5) {
				t.Errorf("%+v", i)
			}
		})
	}
}

func TestPrintingShowsNoCredential(t *testing.T) {
	b := newBench(t)
	o := b.options()
	src, err := secretsource.Open(t.Context(), "plugin://test/x?color=s3cr3t-option#field", &o)
	if err != nil {
		t.Fatal(err)
	}
	defer src.(io.Closer).Close()
	for _, v := range []any{src, b.source(), b.signer()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, credential) || strings.Contains(text, hex.EncodeToString([]byte(credential))) || strings.Contains(text, "s3cr3t-option") {
				t.Errorf("%s of a %T shows a credential", verb, v)
			}
		}
	}
}

// TestNamesAndTheEnvironment: a version may say what is in the environment, unless
// that may be a token.
func TestNamesAndTheEnvironment(t *testing.T) {
	dir := private(t)
	path := executable(t, filepath.Join(dir, "script"), strings.Replace(script("good"), `"version\":\"1\"`, `"version\":\"$VERSION\"`, 1))
	for _, tt := range []struct {
		name, value, version string
		redacted, refused    bool
	}{
		{"DEBUG", "1", "1", false, false},
		{"REGION", "eu-west-1", "arn:aws:kms:eu-west-1:1234", true, false},
		{"VAULT_URL", "https://my-vault.vault.azure.net/", "https://my-vault.vault.azure.net/keys/smart/7", false, false},
		{"CREDENTIALS_DIRECTORY", dir, dir + "/smart", false, false},
		{"PIN", "4711", "20264711", true, false},
		{"TOKEN", "hvs.CAESIJ0123456789", "hvs.CAESIJ0123456789", true, true},
		{"TOKEN", "/J0123456789abcdefgh", "7/J0123456789abcdefgh", true, true},
		{"HOOK", "https://hooks.example.com/T0K3N0123456789", "T0K3N0123456789", true, true},
		{"PROXY", "http://user:passw0rd0123@proxy.example.com", "passw0rd0123", true, true},
		{"NONE", "", "good", false, true}, // the secret itself
	} {
		t.Run(tt.name+" "+tt.value, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			t.Setenv("VERSION", tt.version)
			env := []string{tt.name}
			src, err := openScript(t, secretsource.Plugin{Path: path, Env: env})
			if err != nil {
				t.Fatal(err)
			}
			r := src.(*programSource).runner
			if redacted := r.redactor.Clean(tt.value) != tt.value; redacted != tt.redacted {
				t.Errorf("redacted: %t", redacted)
			}
			old := r.env
			r.env = func() []string { return append(old(), "VERSION="+tt.version) }
			secret, err := src.Lookup(t.Context(), secretsource.Current)
			if refused := errors.Is(err, smartcred.ErrUnavailable); refused != tt.refused || err == nil && secret.Version != tt.version {
				t.Errorf("Lookup = version %q, %v", secret.Version, err)
			}
			if err != nil && strings.Contains(err.Error(), tt.version) {
				t.Errorf("the error shows the version: %v", err)
			}
		})
	}
}
