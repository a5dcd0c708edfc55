package secretsource

import (
	"context"
	"net/url"

	"github.com/smartcred/smartcred"
)

// OpenOptions are what a configuration says beside the URI. The zero value and
// nil are the safe defaults.
type OpenOptions struct {
	// Dir is the folder that relative paths count from; empty: the working directory.
	Dir string
	// FingerprintKey keys the versions of values whose backend gives them none
	// (env, file), so that logs of several processes agree; 32 random bytes.
	// nil: a key made for this process.
	FingerprintKey []byte
	// InsecurePermissions accepts secret and key files that others can read.
	InsecurePermissions bool
	// InsecureBackendTLS accepts backends whose certificate does not verify.
	InsecureBackendTLS bool
	// AllowInsecureLoopback accepts backends that speak http on loopback.
	AllowInsecureLoopback bool
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// An Opener makes a Source from a URI whose scheme it was registered for. It
// MUST refuse query options it does not know, and must not put userinfo or
// query values into errors.
type Opener func(ctx context.Context, uri *url.URL, opts *OpenOptions) (Source, error)
