package secretsource

import (
	"context"
	"fmt"
	"net/url"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/uri"
)

// OpenOptions are what a configuration says beside the URI. The zero value and
// nil are the safe defaults.
type OpenOptions struct {
	// Dir is the folder that relative paths count from; empty: the working directory.
	Dir string
	// FingerprintKey keys the versions of values whose backend gives them none
	// (env, file), so that logs of several processes agree; 32 random bytes.
	// nil: a key made for this process. At least 16 bytes.
	FingerprintKey FingerprintKey
	// InsecurePermissions accepts secret and key files that others can read.
	InsecurePermissions bool
	// InsecureBackendTLS accepts backends whose certificate does not verify.
	InsecureBackendTLS bool
	// AllowInsecureLoopback accepts backends that speak http on loopback.
	AllowInsecureLoopback bool
	// Plugins are the programs that plugin: URIs may name, by that name; nil: none.
	Plugins map[string]Plugin
	// PathPlugins lets them also name programs that are found on PATH, as
	// smartcred-plugin-NAME.
	PathPlugins bool
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// An Opener makes a Source from a URI whose scheme it was registered for; opts
// is never nil. It MUST refuse query options it does not know ([CheckQuery]
// does), MUST honour the fragment or refuse it ([Field] honours it), and must
// not put userinfo or query values into errors.
type Opener func(ctx context.Context, uri *url.URL, opts *OpenOptions) (Source, error)

var registry = uri.Registry[Opener]{
	Package: "secretsource", Noun: "a secret source", Misuse: "a secret itself",
	Openers: map[string]Opener{"env": openEnv, "file": openFile},
	Plugins: map[string]string{
		"awssecretsmanager": "github.com/smartcred/smartcred/plugins/awssecretsmanager",
		"plugin":            "github.com/smartcred/smartcred/plugins/program",
		"vault-kv":          "github.com/smartcred/smartcred/plugins/vaultkv",
	},
	Foreign: []string{"awskms", "pkcs11", "vault-transit"}, Other: "a signer",
}

// Register makes [Open] use open for URIs with that scheme. Packages of
// backends call it from init. It panics if the scheme is not one (RFC 3986
// section 3.1, lower case), if open is nil, and if the scheme is taken.
func Register(scheme string, open Opener) {
	if open == nil {
		panic("secretsource: register " + scheme + ": nil Opener")
	}
	registry.Register(scheme, open)
}

// Open makes a Source from a URI: env:NAME, file:///path, file:path, and those
// of the backends that the program imports. A fragment names a field of a JSON
// object: file:///etc/app/secret.json#client_secret.
//
// Errors of a URI that can't be opened are [smartcred.ErrInvalidConfig] and do
// not hold it: it may be a secret that was put in the wrong place.
//
// The Source does not cache; wrap it with [NewCache]. Whoever opened it closes
// it, where it is an [io.Closer].
func Open(ctx context.Context, uri string, opts *OpenOptions) (Source, error) {
	src, err := open(ctx, uri, opts)
	if err != nil {
		return nil, fmt.Errorf("secretsource: open: %w", err)
	}
	return src, nil
}

func open(ctx context.Context, uri string, opts *OpenOptions) (Source, error) {
	if opts == nil {
		opts = &OpenOptions{}
	}
	if n := len(opts.FingerprintKey); n > 0 && n < minFingerprintKey {
		return nil, &smartcred.ConfigError{Option: "FingerprintKey", Problem: fmt.Sprintf("has %d bytes: at least %d are needed", n, minFingerprintKey)}
	}
	opener, u, scheme, err := registry.Find(uri)
	if err != nil {
		return nil, err
	}
	src, err := opener(ctx, u, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", scheme, err)
	}
	return src, nil
}
