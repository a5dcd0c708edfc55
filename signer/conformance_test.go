package signer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

func newPrivateKey(t *testing.T, alg signer.Algorithm) any {
	t.Helper()
	var key any
	var err error
	if alg == signer.ES384 {
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// writeKeyFile puts a new key at path and returns what must not show of it.
func writeKeyFile(t *testing.T, path string, alg signer.Algorithm) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(newPrivateKey(t, alg))
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(path+".tmp", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	return string(der)
}

func TestFileSignerConforms(t *testing.T) {
	for _, alg := range []signer.Algorithm{signer.RS384, signer.ES384} {
		t.Run(string(alg), func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) *signertest.Harness {
				path := filepath.Join(t.TempDir(), "key.pem")
				secret := writeKeyFile(t, path, alg)
				open := func(t *testing.T) signer.Signer {
					s, err := signer.File(path, nil)
					if err != nil {
						t.Fatal(err)
					}
					return s
				}
				return &signertest.Harness{
					Open: open,
					Rotate: func(t *testing.T) {
						if err := os.Rename(path, path+".previous"); err != nil {
							t.Fatal(err)
						}
						writeKeyFile(t, path, alg)
					},
					Disable: func(t *testing.T, version string) {
						for _, name := range []string{path + ".previous", path} {
							s, err := signer.File(name, nil)
							if err != nil {
								t.Fatal(err)
							}
							if keys, err := s.Keys(t.Context()); err == nil && keys[0].Version == version {
								if err := os.Remove(name); err != nil {
									t.Fatal(err)
								}
								return
							}
						}
						t.Fatalf("no file holds version %s", version)
					},
					Secrets: []string{secret},
				}
			})
		})
	}
}

func TestCryptoSignerConforms(t *testing.T) {
	for _, alg := range []signer.Algorithm{signer.RS384, signer.ES384} {
		t.Run(string(alg), func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) *signertest.Harness {
				key := newPrivateKey(t, alg)
				return &signertest.Harness{Open: func(t *testing.T) signer.Signer {
					var s *signer.CryptoSigner
					var err error
					if k, ok := key.(*rsa.PrivateKey); ok {
						s, err = signer.FromCryptoSigner(k, nil)
					} else {
						s, err = signer.FromCryptoSigner(key.(*ecdsa.PrivateKey), nil)
					}
					if err != nil {
						t.Fatal(err)
					}
					return s
				}}
			})
		})
	}
}
