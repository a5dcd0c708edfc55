//go:build unix

package plugins

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/examples/custombackend/service"
	"github.com/smartcred/smartcred/plugins/program"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

// folder returns one that only this user can write, whatever the umask.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// need fails or skips where something is missing that a plugin runs on.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("missing: %s (apt-get install python3 openssl)", tool)
		}
		t.Skipf("missing: %s (apt-get install python3 openssl)", tool)
	}
}

// installed copies a plugin to where it may be run, as its user would.
func installed(t *testing.T, name string) secretsource.OpenOptions {
	t.Helper()
	if name == "smartcred-plugin-openssl" {
		need(t, "python3", "openssl")
	}
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t), name)
	if err := os.WriteFile(path, content, 0o700); err != nil {
		t.Fatal(err)
	}
	return allow(t, strings.TrimPrefix(name, "smartcred-plugin-"), path)
}

func allow(t *testing.T, name, path string) secretsource.OpenOptions {
	return secretsource.OpenOptions{
		Observer: smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { t.Log(e.Detail) }),
		Plugins:  map[string]secretsource.Plugin{name: {Path: path, Env: []string{"PATH", "CREDENTIALS_DIRECTORY", "KEYHOUSE_TOKEN"}}},
	}
}

// builtKeyhouse builds examples/custombackend's plugin.
func builtKeyhouse(t *testing.T) secretsource.OpenOptions {
	t.Helper()
	path := filepath.Join(folder(t), "smartcred-plugin-keyhouse")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../custombackend/plugin").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return allow(t, "keyhouse", path)
}

// TestProtocol runs the protocol's own checks over a plugin in each language.
func TestProtocol(t *testing.T) {
	for name, opts := range map[string]secretsource.OpenOptions{
		"credentials": installed(t, "smartcred-plugin-credentials"),
		"openssl":     installed(t, "smartcred-plugin-openssl"),
		"keyhouse":    builtKeyhouse(t),
	} {
		t.Run(name, func(t *testing.T) {
			i, err := program.Inspect(t.Context(), "plugin://"+name+"/x", &opts)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range i.Findings {
				if f.Err != nil {
					t.Errorf("it %s: %v", f.Promise, f.Err)
				}
			}
			if shell := name == "credentials"; i.LongLived == shell || i.Signer == shell || !i.Source {
				t.Errorf("%+v", i)
			}
		})
	}
}

func openSource(opts secretsource.OpenOptions, uri string) func(*testing.T) secretsource.Source {
	return func(t *testing.T) secretsource.Source {
		src, err := secretsource.Open(t.Context(), uri, &opts)
		if err != nil {
			t.Fatal(err)
		}
		return src
	}
}

func openSigner(opts secretsource.OpenOptions, uri string) func(*testing.T) signer.Signer {
	return func(t *testing.T) signer.Signer {
		s, err := signer.Open(t.Context(), uri, &signer.OpenOptions{OpenOptions: opts})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// inFile is the kit's harness for a source that keeps its secrets in files.
func inFile(path string, open func(*testing.T) secretsource.Source) *secretsourcetest.Harness {
	return &secretsourcetest.Harness{
		Open: open,
		Set: func(t *testing.T, value string) {
			if err := os.Rename(path, path+".previous"); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Remove: func(t *testing.T) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		HasPrevious: true,
	}
}

func TestShell(t *testing.T) {
	secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
		dir := folder(t)
		t.Setenv("CREDENTIALS_DIRECTORY", dir)
		return inFile(filepath.Join(dir, "smart"), openSource(installed(t, "smartcred-plugin-credentials"), "plugin://credentials/smart"))
	})
	t.Run("refused", func(t *testing.T) {
		t.Setenv("CREDENTIALS_DIRECTORY", folder(t))
		opts := installed(t, "smartcred-plugin-credentials")
		for uri, want := range map[string]error{
			"plugin://credentials":                                       smartcred.ErrInvalidConfig,
			"plugin://credentials/a/../b":                                smartcred.ErrInvalidConfig,
			"plugin://credentials/.hidden":                               smartcred.ErrInvalidConfig,
			"plugin://credentials/a%22,%22x%22:%22":                      smartcred.ErrInvalidConfig,
			"plugin://credentials/a?stage=current":                       smartcred.ErrInvalidConfig,
			"plugin://credentials/%22,%22method%22:%22hello%22,%22x%22:": smartcred.ErrInvalidConfig,
			"plugin://credentials/a":                                     smartcred.ErrNotFound,
		} {
			if _, err := openSource(opts, uri)(t).Lookup(t.Context(), secretsource.Current); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", uri, err, want)
			}
		}
	})
}

// writeKey puts a key into a file whose name says that it is newer than all.
func writeKey(t *testing.T, dir string, key crypto.Signer) {
	t.Helper()
	names, err := filepath.Glob(dir + "/*.pem")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("%s/key-%03d.pem", dir, len(names)), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newP384(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestPython(t *testing.T) {
	opts := installed(t, "smartcred-plugin-openssl")
	t.Run("source", func(t *testing.T) {
		secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
			path := filepath.Join(folder(t), "secret")
			return inFile(path, openSource(opts, "plugin://openssl"+path))
		})
	})
	t.Run("signer", func(t *testing.T) {
		signertest.Run(t, func(t *testing.T) *signertest.Harness {
			dir := folder(t)
			writeKey(t, dir, newP384(t))
			return &signertest.Harness{
				Open:   openSigner(opts, "plugin://openssl"+dir),
				Rotate: func(t *testing.T) { writeKey(t, dir, newP384(t)) },
				Disable: func(t *testing.T, version string) {
					if err := os.Rename(dir+"/"+version+".pem", dir+"/"+version); err != nil {
						t.Fatal(err)
					}
				},
			}
		})
	})
	t.Run("RSA", func(t *testing.T) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		dir := folder(t)
		writeKey(t, dir, key)
		for _, alg := range []signer.Algorithm{signer.RS384, signer.PS384} {
			s, err := signer.Open(t.Context(), "plugin://openssl"+dir, &signer.OpenOptions{OpenOptions: opts, Algorithm: alg})
			if err != nil {
				t.Fatal(err)
			}
			if err := signertest.Check(t.Context(), s); err != nil {
				t.Errorf("%s: %v", alg, err)
			}
		}
	})
}

func TestGo(t *testing.T) {
	const token = "keyhouse-token-0123456789abcdef"
	opts := builtKeyhouse(t)
	start := func(t *testing.T) (*service.Service, string) {
		t.Setenv("KEYHOUSE_TOKEN", token)
		house := service.New(token)
		srv := httptest.NewServer(house.Handler())
		t.Cleanup(srv.Close)
		return house, "plugin://keyhouse/app?insecure-loopback=true&token-source=env%3AKEYHOUSE_TOKEN&server=" + strings.TrimPrefix(srv.URL, "http://")
	}
	t.Run("source", func(t *testing.T) {
		secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
			house, uri := start(t)
			return &secretsourcetest.Harness{
				Open: openSource(opts, uri), Set: func(_ *testing.T, value string) { house.SetSecret("app", value) },
				Remove: func(*testing.T) { house.SetSecret("app", "") }, HasPrevious: true, Secrets: []string{token},
				Deny: func(*testing.T) func() { house.SetToken("another"); return func() { house.SetToken(token) } },
			}
		})
	})
	t.Run("signer", func(t *testing.T) {
		signertest.Run(t, func(t *testing.T) *signertest.Harness {
			house, uri := start(t)
			newKey := func(t *testing.T) {
				if err := house.NewKey("app"); err != nil {
					t.Fatal(err)
				}
			}
			newKey(t)
			return &signertest.Harness{
				Open: openSigner(opts, uri), Rotate: newKey, Secrets: []string{token},
				Disable: func(_ *testing.T, version string) { house.Disable("app", version) },
				Deny:    func(*testing.T) func() { house.SetToken("another"); return func() { house.SetToken(token) } },
			}
		})
	})
}
