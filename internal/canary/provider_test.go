package canary

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/youmark/pkcs8"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// Values that must not show. Some have what encodings change.
const (
	clientSecret   = `Zq7/+&=%"\é Wm3vK9xTb2Rd5Hn8Lc4Yf6`
	previousSecret = "pV4s-Jt6~Xe1_Gk0.Ub7Nw2Qy9Zi5Mo3Ca8Lh"
	passphrase     = `hT5 %w/qV2+rB8&nK4"jX7dS1gF6mC9`
	accessToken    = "aT9kQ2mZ7xW4cV1bN8sD5fG3hJ6lP0oI"
	refreshToken   = "rF4yH8uJ1iK7oL3pM9zX2cV6bN5qW0eR"
	authCode       = "cD6tG2yH7uJ4iK9oL1pZ8xC3vB5nM0qW"
	verifierValue  = "vR8dF3gH6jK1lZ9xC4vB7nM2qW5eT0yU.s~Ao-Pd_Fg"
	hookToken      = "hK3wE8rT1yU6iO9pA4sD7fG2hJ5kL0zX"
	fingerprintKey = "fK7pL2oI9uY4tR1eW6qA3sD8fG5hJ0kZ"
)

func init() {
	// In FIPS 140 mode the first use seeds itself, which takes real time.
	_, _ = rand.Read(make([]byte, 1))
}

// common are the values that every subtest looks for.
func newCommonWatch(t *testing.T) *watch {
	w := newWatch()
	for name, value := range map[string]string{
		"client secret": clientSecret, "previous secret": previousSecret, "passphrase": passphrase,
		"access token": accessToken, "refresh token": refreshToken, "authorization code": authCode,
		"verifier": verifierValue, "hook's token": hookToken, "fingerprint key": fingerprintKey,
	} {
		w.secret(name, value)
	}
	w.defaultLoggers(t)
	t.Cleanup(func() { w.check(t); w.noteTypes() })
	return w
}

// newKey returns a private key whose private number is looked for.
func newKey(t *testing.T, w *watch) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w.secret("private key", string(number))
	return key
}

func newSigner(t *testing.T, w *watch) *signer.CryptoSigner {
	t.Helper()
	s, err := signer.FromCryptoSigner(newKey(t, w), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.value("crypto signer", s)
	return s
}

// pkcs8PEM is key as PEM, encrypted if there is a passphrase.
func pkcs8PEM(t *testing.T, key *ecdsa.PrivateKey, passphrase string) []byte {
	t.Helper()
	if passphrase == "" {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	der, err := pkcs8.MarshalPrivateKey(key, []byte(passphrase), &pkcs8.Opts{
		Cipher: pkcs8.AES256CBC, KDFOpts: pkcs8.PBKDF2Opts{SaltSize: 16, IterationCount: 2048, HMACHash: crypto.SHA256},
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// twoSecrets is a source with a current and a previous secret.
func twoSecrets() secretsource.Source {
	return secretsource.List(secretsource.Static([]byte(clientSecret)), secretsource.Static([]byte(previousSecret)))
}

// newProviders returns a fresh provider of each method, by name.
func newProviders(t *testing.T, w *watch, key signer.Signer) map[string]provider.Provider {
	t.Helper()
	rotation := &provider.RotationOptions{Observer: w.observer()}
	secrets := &provider.SecretOptions{Rotation: rotation, Cache: &secretsource.CacheOptions{Observer: w.observer()}}
	raw := *secrets
	raw.Encoding = provider.EncodingRaw
	out := map[string]provider.Provider{"none": provider.Public{}}
	for name, cfg := range map[string]provider.Config{
		"basic":     {Secret: twoSecrets(), SecretOptions: secrets},
		"basic raw": {Secret: twoSecrets(), SecretOptions: &raw},
		"post":      {Method: provider.MethodClientSecretPost, Secret: twoSecrets(), SecretOptions: secrets},
		"jwt":       {Signer: key, JWTOptions: &provider.PrivateKeyJWTOptions{Rotation: rotation, KeySet: &signer.KeySetOptions{Observer: w.observer()}}},
	} {
		p, err := provider.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = p
	}
	return out
}
