package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/uri"
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
	// PublishFor is how long a backend with versions of its own publishes a new
	// one before it signs: [Key.NotBefore] is that long after the key was made.
	// It is for servers that fetch the JWK Set by URL. 0: keys are registered by
	// hand, and newer versions are [Unscheduled].
	PublishFor time.Duration
}

// An Opener makes a Signer from a URI whose scheme it was registered for; opts is
// never nil. It MUST refuse query options it does not know
// ([secretsource.CheckQuery] does) and fragments, and must not put userinfo or
// query values into errors.
type Opener func(ctx context.Context, uri *url.URL, opts *OpenOptions) (Signer, error)

var registry = uri.Registry[Opener]{
	Package: "signer", Noun: "a signer", Misuse: "a key itself",
	Openers: map[string]Opener{"file": openFile},
	Plugins: map[string]string{
		"awskms":        "github.com/smartcred/smartcred/plugins/awskms",
		"pkcs11":        "github.com/smartcred/smartcred/plugins/pkcs11",
		"plugin":        "github.com/smartcred/smartcred/plugins/program",
		"vault-transit": "github.com/smartcred/smartcred/plugins/vaulttransit",
	},
	Foreign: []string{"env", "vault-kv", "awssecretsmanager"}, Other: "a secret",
}

// Register makes [Open] use open for URIs with that scheme. Packages of backends
// call it from init. It panics if the scheme is not one (RFC 3986 section 3.1,
// lower case), if open is nil, and if the scheme is taken.
func Register(scheme string, open Opener) {
	if open == nil {
		panic("signer: register " + scheme + ": nil Opener")
	}
	registry.Register(scheme, open)
}

// Open makes a Signer from a URI: file:///path or file:path, see [FileSigner],
// and those of the backends that the program imports. Encrypted key files name
// the secret source of their passphrase, percent-encoded:
// file:///etc/app/key.pem?passphrase-source=env%3AKEY_PASSPHRASE.
//
// A key file that is there and can't be used is refused here; what may change by
// itself, a file that is missing or a source that is down, shows at first use.
// Errors of a URI that can't be opened are [smartcred.ErrInvalidConfig] and do
// not hold it: it may be a key that was put in the wrong place.
//
// The Signer does not cache its list; wrap it with [NewKeySet]. Whoever opened it
// closes it, where it is an [io.Closer].
func Open(ctx context.Context, uri string, opts *OpenOptions) (Signer, error) {
	s, err := open(ctx, uri, opts)
	if err != nil {
		return nil, fmt.Errorf("signer: open: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, uri string, opts *OpenOptions) (Signer, error) {
	if opts == nil {
		opts = &OpenOptions{}
	}
	opener, u, scheme, err := registry.Find(uri)
	if err != nil {
		return nil, err
	}
	s, err := opener(ctx, u, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", scheme, err)
	}
	return s, nil
}

const passphraseOption = "passphrase-source"

func openFile(ctx context.Context, u *url.URL, opts *OpenOptions) (Signer, error) {
	query, err := secretsource.CheckQuery(u, passphraseOption)
	if err != nil {
		return nil, err
	}
	if u.Fragment != "" {
		return nil, &smartcred.ConfigError{Problem: "a key file has no fields: # belongs to secrets' URIs, and in a path it is written %23"}
	}
	path, err := uri.FilePath(u)
	if err != nil {
		return nil, err
	}
	o := FileOptions{Dir: opts.Dir, Algorithm: opts.Algorithm, InsecurePermissions: opts.InsecurePermissions, Observer: opts.Observer}
	if query.Has(passphraseOption) {
		if o.Passphrase, err = secretsource.Open(ctx, query.Get(passphraseOption), &opts.OpenOptions); err != nil {
			return nil, &smartcred.ConfigError{Option: passphraseOption, Problem: "can't be opened", Err: err}
		}
	}
	owned, _ := o.Passphrase.(io.Closer)
	f, err := File(path, &o)
	if err != nil {
		if owned != nil {
			err = errors.Join(err, owned.Close())
		}
		return nil, err
	}
	f.owned = owned
	_, err = f.load(ctx, false)
	if errors.Is(err, smartcred.ErrInvalidConfig) || errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
