//go:build cgo

package pkcs11

import (
	"fmt"
	"testing"
	"time"

	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

func TestConformance(t *testing.T) {
	for name, kind := range map[string]string{"P-384": p384, "RSA": rsa2048} {
		t.Run(name, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) *signertest.Harness { return harness(t, kind) })
		})
	}
}

// harness rotates as a token can: keys of one label, each with a later date.
func harness(t *testing.T, kind string) *signertest.Harness {
	h := newHSM(t)
	keys := 0
	rotate := func(t *testing.T) {
		keys++
		id := fmt.Sprintf("%02x", keys)
		h.keygen(t, kind, "k", id)
		h.date(t, id, time.Date(2024, 1, keys, 0, 0, 0, 0, time.UTC).Format("20060102"), "")
	}
	rotate(t)
	fault := func(name string) func(*testing.T) func() {
		return func(t *testing.T) func() { return h.on(t, name) }
	}
	return &signertest.Harness{
		Open:    func(t *testing.T) signer.Signer { return open(t, uri(shimHSM, "object=k"), nil) },
		Rotate:  rotate,
		Disable: h.deleteKey,
		Deny:    fault("deny"),
		Stop:    fault("stop"),
		Stall:   fault("stall"),
		Garble:  fault("garble"),
		Secrets: []string{rightPIN, soPIN},
	}
}
