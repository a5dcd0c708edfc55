//go:build !cgo

package pkcs11

import (
	"context"
	"fmt"
	"net/url"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

var errNoCgo = &smartcred.ConfigError{Option: scheme, Problem: "this program was built without cgo, which PKCS#11 libraries need: build it with CGO_ENABLED=1 and a C compiler (gcc or clang)"}

func init() {
	signer.Register(scheme, func(_ context.Context, u *url.URL, _ *signer.OpenOptions) (signer.Signer, error) {
		if _, _, err := parseURI(u); err != nil {
			return nil, err
		}
		return nil, errNoCgo
	})
}

// A Signer signs with keys of a token. In this build there is none: the program
// was built without cgo.
type Signer struct{}

var _ signer.Signer = (*Signer)(nil)

// New returns an error that says what the build lacks: cgo.
func New(*Options) (*Signer, error) { return nil, fmt.Errorf("pkcs11: open: %w", errNoCgo) }

// Keys implements [signer.Signer].
func (*Signer) Keys(context.Context) ([]signer.Key, error) {
	return nil, fmt.Errorf("pkcs11: list keys: %w", errNoCgo)
}

// Sign implements [signer.Signer].
func (*Signer) Sign(context.Context, signer.Key, []byte) ([]byte, error) {
	return nil, fmt.Errorf("pkcs11: sign: %w", errNoCgo)
}

// Reset does nothing in this build.
func (*Signer) Reset() {}

// Close implements [io.Closer].
func (*Signer) Close() error { return nil }
