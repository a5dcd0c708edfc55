package signer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/smartcred/smartcred"
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

// An Opener makes a Signer from a URI whose scheme it was registered for; opts is
// never nil. It MUST refuse query options it does not know
// ([secretsource.CheckQuery] does) and fragments, and must not put userinfo or
// query values into errors.
type Opener func(ctx context.Context, uri *url.URL, opts *OpenOptions) (Signer, error)

var registry = struct {
	sync.RWMutex
	openers map[string]Opener
}{openers: map[string]Opener{"file": openFile}}

// plugins are smartcred's schemes that a program has only if it imports them.
var plugins = map[string]string{
	"awskms":        "github.com/smartcred/smartcred/plugins/awskms",
	"pkcs11":        "github.com/smartcred/smartcred/plugins/pkcs11",
	"plugin":        "github.com/smartcred/smartcred/plugins/program",
	"vault-transit": "github.com/smartcred/smartcred/plugins/vaulttransit",
}

// Register makes [Open] use open for URIs with that scheme. Packages of backends
// call it from init. It panics if the scheme is not one (RFC 3986 section 3.1,
// lower case), if open is nil, and if the scheme is taken.
func Register(scheme string, open Opener) {
	if !isScheme(scheme) {
		panic(fmt.Sprintf("signer: register %q: not a lower-case URI scheme", scheme))
	}
	if open == nil {
		panic("signer: register " + scheme + ": nil Opener")
	}
	registry.Lock()
	defer registry.Unlock()
	if _, taken := registry.openers[scheme]; taken {
		panic("signer: register " + scheme + ": registered already")
	}
	registry.openers[scheme] = open
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
	scheme, _, found := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	if !found || !isScheme(scheme) {
		return nil, &smartcred.ConfigError{Problem: "not a signer's URI (a key itself does not belong here): it begins with " + schemes()}
	}
	registry.RLock()
	opener := registry.openers[scheme]
	registry.RUnlock()
	if opener == nil {
		// A scheme that nobody knows is not printed: it may be part of a key.
		if path, ok := plugins[scheme]; ok {
			return nil, &smartcred.ConfigError{Option: scheme, Problem: "this program was built without it: import " + path + "; it has " + schemes()}
		}
		return nil, &smartcred.ConfigError{Problem: "unknown scheme: a signer's URI begins with " + schemes()}
	}
	u, err := url.Parse(uri) // its errors quote the URI
	if err != nil {
		return nil, &smartcred.ConfigError{Option: scheme, Problem: "not a valid URI: special characters are written percent-encoded"}
	}
	s, err := opener(ctx, u, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", scheme, err)
	}
	return s, nil
}

// schemes lists what is registered, then what could be, with the import it needs.
func schemes() string {
	registry.RLock()
	known := slices.Sorted(maps.Keys(registry.openers))
	registry.RUnlock()
	for i, s := range known {
		known[i] = s + ":"
	}
	for _, s := range slices.Sorted(maps.Keys(plugins)) {
		if !slices.Contains(known, s+":") {
			known = append(known, s+": (import "+plugins[s]+")")
		}
	}
	return strings.Join(known, ", ")
}

func isScheme(s string) bool {
	return s != "" && 'a' <= s[0] && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789+-.") == ""
}

const passphraseOption = "passphrase-source"

func openFile(ctx context.Context, uri *url.URL, opts *OpenOptions) (Signer, error) {
	query, err := secretsource.CheckQuery(uri, passphraseOption)
	if err != nil {
		return nil, err
	}
	path, err := filePath(uri)
	if err != nil {
		return nil, err
	}
	o := FileOptions{Dir: opts.Dir, Algorithm: opts.Algorithm, InsecurePermissions: opts.InsecurePermissions, Observer: opts.Observer}
	if query.Has(passphraseOption) {
		if o.Passphrase, err = secretsource.Open(ctx, query.Get(passphraseOption), &opts.OpenOptions); err != nil {
			return nil, &smartcred.ConfigError{Option: passphraseOption, Problem: "can't be opened", Err: err}
		}
	}
	f, err := File(path, &o)
	if err != nil {
		return nil, err
	}
	f.owned, _ = o.Passphrase.(io.Closer)
	_, err = f.load(ctx, false)
	if errors.Is(err, smartcred.ErrInvalidConfig) || errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// filePath returns the path that a file URI names (RFC 8089), which may be
// relative: file:path.
func filePath(uri *url.URL) (string, error) {
	path := uri.Path
	if uri.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(uri.Opaque); err != nil {
			path = ""
		}
	}
	if path == "" || uri.User != nil || uri.Host != "" && uri.Host != "localhost" || uri.Fragment != "" {
		return "", &smartcred.ConfigError{Problem: "not of the form file:///absolute/path or file:relative/path, percent-encoded"}
	}
	// file:///C:/dir has the path /C:/dir.
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	return filepath.FromSlash(path), nil
}
