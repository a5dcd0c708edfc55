package signer

import (
	"context"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	putKey(t, filepath.Join(dir, "a key.pem"), "p384.pem")
	for name, uri := range map[string]string{
		"absolute": "file://" + filepath.ToSlash(dir) + "/a%20key.pem",
		"relative": "file:a%20key.pem",
		"upper":    "FILE:a%20key.pem",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), uri, &OpenOptions{OpenOptions: secretsource.OpenOptions{Dir: dir}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"p384"}, listed(t, s)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenFilePassphraseSource(t *testing.T) {
	const passphrase = "a passphrase of some length"
	dir := t.TempDir()
	write := func(name string, data []byte, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("key.pem", encryptedPEM(t, passphrase, 16, 2048), 0o600)
	write("pass", []byte(passphrase+"\n"), 0o600)
	opts := &OpenOptions{OpenOptions: secretsource.OpenOptions{Dir: dir}}
	s, err := Open(t.Context(), "file:key.pem?passphrase-source="+url.QueryEscape("file:pass"), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Keys(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), "file:key.pem", opts); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("without a passphrase: %v", err)
	}
}

// A closable is a secret source that counts how often it was closed.
type closable struct {
	secretsource.Source
	closed int
}

func (c *closable) Close() error { c.closed++; return nil }

var countedSource = &closable{Source: secretsource.Static([]byte("x"))}

// The registry is the process's: a scheme is registered once, however often a test runs.
func init() {
	secretsource.Register("test-passphrase", func(context.Context, *url.URL, *secretsource.OpenOptions) (secretsource.Source, error) {
		return countedSource, nil
	})
}

func TestOpenThatFailsClosesThePassphraseSource(t *testing.T) {
	dir := t.TempDir()
	putKey(t, filepath.Join(dir, "rsa1024.pem"), "rsa1024.pem")
	source := countedSource
	for name, alg := range map[string]Algorithm{"the algorithm is unknown": "XS1", "the key is weak": ""} {
		t.Run(name, func(t *testing.T) {
			source.closed = 0
			_, err := Open(t.Context(), "file:rsa1024.pem?passphrase-source=test-passphrase:x", &OpenOptions{
				Algorithm: alg, OpenOptions: secretsource.OpenOptions{Dir: dir},
			})
			if err == nil || source.closed != 1 {
				t.Errorf("closed %d times, %v", source.closed, err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	const secret = "hunter2"
	dir := t.TempDir()
	putKey(t, filepath.Join(dir, "rsa1024.pem"), "rsa1024.pem")
	for name, tt := range map[string]struct{ uri, says string }{
		"empty":               {"", "file:"},
		"no scheme":           {secret, "vault-transit: (import github.com/smartcred/smartcred/plugins/vaulttransit)"},
		"a pasted key":        {"-----BEGIN PRIVATE KEY-----\n" + secret, "a key itself does not belong here"},
		"a pasted JWK":        {`{"kty":"EC","d":"` + secret + `"}`, "file:"},
		"unknown scheme":      {secret + ":x", "pkcs11: (import github.com/smartcred/smartcred/plugins/pkcs11)"},
		"known, not built in": {"awskms:///" + secret, "import github.com/smartcred/smartcred/plugins/awskms"},
		"plugin":              {"plugin://x/" + secret, "import github.com/smartcred/smartcred/plugins/program"},
		"unknown option":      {"file:key.pem?passphrase=" + secret, "known are passphrase-source"},
		"option twice":        {"file:key.pem?passphrase-source=" + secret + "&passphrase-source=x", "twice"},
		"bad source":          {"file:key.pem?passphrase-source=" + secret, "passphrase-source"},
		"bad query":           {"file:key.pem?" + secret + ";x", "malformed"},
		"userinfo":            {"file://u:" + secret + "@/key.pem", "file:///absolute/path"},
		"host":                {"file://" + secret + "/key.pem", "file:///absolute/path"},
		"fragment":            {"file:key.pem#" + secret, "no fields"},
		"empty fragment":      {"file:" + secret + "#", "ends in #"},
		"a secret's scheme":   {"vault-kv://" + secret, "vault-kv: a secret's scheme: a signer's URI begins with"},
		"a secret's, too":     {"env:" + secret, "env: a secret's scheme"},
		"no path":             {"file:", "file:///absolute/path"},
		"bad escape":          {"file:%zz" + secret, "percent-encoded"},
		"a key that is weak":  {"file:rsa1024.pem", "2048"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), tt.uri, &OpenOptions{OpenOptions: secretsource.OpenOptions{Dir: dir}})
			if !errors.Is(err, smartcred.ErrInvalidConfig) && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not say %q", err, tt.says)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("error %q prints the URI", err)
			}
		})
	}
}

func TestRegister(t *testing.T) {
	opener := func(_ context.Context, uri *url.URL, opts *OpenOptions) (Signer, error) {
		if opts == nil {
			t.Error("opts is nil")
		}
		s, err := FromCryptoSigner(testKey(t, "p384"), &CryptoSignerOptions{Version: uri.Opaque})
		return s, err
	}
	Register("test-scheme", opener)
	t.Cleanup(func() { delete(registry.Openers, "test-scheme") })
	s, err := Open(t.Context(), "test-scheme:v7", nil)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := s.Keys(t.Context()); err != nil || keys[0].Version != "v7" {
		t.Errorf("keys %v, %v", keys, err)
	}
	for name, register := range map[string]func(){
		"twice":       func() { Register("test-scheme", opener) },
		"built in":    func() { Register("file", opener) },
		"upper case":  func() { Register("Test", opener) },
		"empty":       func() { Register("", opener) },
		"nil":         func() { Register("other", nil) },
		"not letters": func() { Register("a b", opener) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			register()
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, uri := range []string{"file:///a/b", "file:a", "file:a?passphrase-source=env%3AX", "awskms:///x", "x", "file://u:p@h/x?y=z#f", "-----BEGIN"} {
		f.Add(uri)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, uri string) {
		if strings.Contains(uri, "/") {
			uri = strings.ReplaceAll(uri, "/", "_") // stay in the folder
		}
		s, err := Open(t.Context(), uri, &OpenOptions{OpenOptions: secretsource.OpenOptions{Dir: dir, Observer: smartcred.Discard}})
		if (s == nil) == (err == nil) {
			t.Fatalf("%v and %v", s, err)
		}
	})
}
