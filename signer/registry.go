package signer

import (
	"context"
	"net/url"

	"github.com/smartcred/smartcred/secretsource"
)

// OpenOptions are what a configuration says beside the URI. The zero value and
// nil are the safe defaults.
type OpenOptions struct {
	// OpenOptions hold for the signer's own connection and for the secret
	// sources that its URI names (passphrases, PINs).
	secretsource.OpenOptions
	// Algorithm is what the keys sign with; empty: RS384 or ES384, as the key is.
	Algorithm Algorithm
}

// An Opener makes a Signer from a URI whose scheme it was registered for. It
// MUST refuse query options it does not know, and must not put userinfo or
// query values into errors.
type Opener func(ctx context.Context, uri *url.URL, opts *OpenOptions) (Signer, error)
