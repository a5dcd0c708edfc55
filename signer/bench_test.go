package signer

import (
	"crypto"
	"crypto/rand"
	"path/filepath"
	"testing"

	"github.com/smartcred/smartcred"
)

// BenchmarkAssertion compares a whole assertion by a key file, through KeySet,
// with the bare signature by crypto/rsa and crypto/ecdsa.
func BenchmarkAssertion(b *testing.B) {
	for _, name := range []string{"rsa2048", "p384"} {
		path := filepath.Join(b.TempDir(), "key.pem")
		putKey(b, path, name+".pem")
		keys, err := NewKeySet(openKeyFile(b, path, nil), &KeySetOptions{Observer: smartcred.Discard})
		if err != nil {
			b.Fatal(err)
		}
		private := testKey(b, name)
		digest := make([]byte, crypto.SHA384.Size())
		a := Assertion{ClientID: "app", Audience: "https://as.example.com/token"}
		b.Run(name+"/bare", func(b *testing.B) {
			for b.Loop() {
				if _, err := private.Sign(rand.Reader, digest, crypto.SHA384); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/assertion", func(b *testing.B) {
			for b.Loop() {
				key, err := keys.Signing(b.Context(), nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, _, err := a.Sign(b.Context(), keys, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
