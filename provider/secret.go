package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// A SecretEncoding says how HTTP Basic carries client id and secret. Servers
// differ: RFC 6749 asks for form encoding, and many decode none.
type SecretEncoding string

const (
	// EncodingRFC6749 form-encodes both before base64: RFC 6749 section 2.3.1
	// and appendix B. The default.
	EncodingRFC6749 SecretEncoding = "rfc6749"
	// EncodingRaw base64-encodes both as they are: RFC 7617. The client id must
	// not have a colon.
	EncodingRaw SecretEncoding = "raw"
)

// SecretOptions configure [NewClientSecretBasic] and [NewClientSecretPost]. The
// zero value and nil are the defaults.
type SecretOptions struct {
	// Encoding is for Basic only; empty: [EncodingRFC6749].
	Encoding SecretEncoding
	// Cache is how long looked-up secrets are kept; nil: the defaults. It does
	// not apply to a source that is a [*secretsource.Cache] already.
	Cache *secretsource.CacheOptions
}

// ClientSecretBasic authenticates with a client secret in the Authorization
// header: RFC 6749 section 2.3.1. It is safe for concurrent use.
type ClientSecretBasic struct {
	secrets  *secretsource.Cache
	encoding SecretEncoding
}

// ClientSecretPost authenticates with a client secret in the request's body:
// RFC 6749 section 2.3.1. It is safe for concurrent use.
type ClientSecretPost struct {
	secrets *secretsource.Cache
}

var (
	_ Provider  = (*ClientSecretBasic)(nil)
	_ Provider  = (*ClientSecretPost)(nil)
	_ io.Closer = (*ClientSecretBasic)(nil)
	_ io.Closer = (*ClientSecretPost)(nil)
)

// NewClientSecretBasic returns a provider that looks the secret up in source.
// A source that is no [*secretsource.Cache] is wrapped in one.
func NewClientSecretBasic(source secretsource.Source, opts *SecretOptions) (*ClientSecretBasic, error) {
	var o SecretOptions
	if opts != nil {
		o = *opts
	}
	switch o.Encoding {
	case "":
		o.Encoding = EncodingRFC6749
	case EncodingRFC6749, EncodingRaw:
	default:
		return nil, &smartcred.ConfigError{Option: "secret_encoding", Problem: fmt.Sprintf("unknown encoding %q: use rfc6749 or raw", o.Encoding)}
	}
	secrets, err := cached(source, o.Cache)
	if err != nil {
		return nil, err
	}
	return &ClientSecretBasic{secrets: secrets, encoding: o.Encoding}, nil
}

// NewClientSecretPost returns a provider that looks the secret up in source.
// A source that is no [*secretsource.Cache] is wrapped in one.
func NewClientSecretPost(source secretsource.Source, opts *SecretOptions) (*ClientSecretPost, error) {
	var cache *secretsource.CacheOptions
	if opts != nil {
		cache = opts.Cache
	}
	secrets, err := cached(source, cache)
	if err != nil {
		return nil, err
	}
	return &ClientSecretPost{secrets: secrets}, nil
}

func cached(source secretsource.Source, opts *secretsource.CacheOptions) (*secretsource.Cache, error) {
	switch s := source.(type) {
	case nil:
		return nil, &smartcred.ConfigError{Option: "secret", Problem: "no secret source given"}
	case *secretsource.Cache:
		return s, nil
	default:
		return secretsource.NewCache(source, opts), nil
	}
}

// Authenticate implements [Provider].
func (p *ClientSecretBasic) Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error {
	secret, err := lookup(ctx, p.secrets)
	if err != nil {
		return err
	}
	value := secret.Reveal()
	header, err := basicHeader(req.ClientID, string(value), p.encoding)
	if err != nil {
		return err
	}
	return send(ctx, NewCredential(CredentialOptions{
		Method:    MethodClientSecretBasic,
		Version:   secret.Version,
		Header:    http.Header{"Authorization": {header}},
		Sensitive: [][]byte{value, []byte(strings.TrimPrefix(header, "Basic "))},
	}))
}

// Authenticate implements [Provider].
func (p *ClientSecretPost) Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error {
	secret, err := lookup(ctx, p.secrets)
	if err != nil {
		return err
	}
	value := secret.Reveal()
	return send(ctx, NewCredential(CredentialOptions{
		Method:    MethodClientSecretPost,
		Version:   secret.Version,
		Params:    url.Values{"client_id": {req.ClientID}, "client_secret": {string(value)}},
		Sensitive: [][]byte{value},
	}))
}

// Close ends look-ups in flight and closes the source if it is an [io.Closer].
func (p *ClientSecretBasic) Close() error { return p.secrets.Close() }

// Close ends look-ups in flight and closes the source if it is an [io.Closer].
func (p *ClientSecretPost) Close() error { return p.secrets.Close() }

func lookup(ctx context.Context, secrets *secretsource.Cache) (secretsource.Secret, error) {
	secret, err := secrets.Lookup(ctx, secretsource.Current)
	switch {
	case err != nil:
		return secretsource.Secret{}, &CredentialError{Op: "look up client secret", Err: err}
	case len(secret.Reveal()) == 0:
		return secretsource.Secret{}, &CredentialError{Op: "look up client secret", Err: fmt.Errorf("the source's value is empty: %w", smartcred.ErrNotFound)}
	}
	return secret, nil
}

var errColon = errors.New("client id has a colon, which the raw encoding of HTTP Basic can't carry: use secret_encoding rfc6749 or client_secret_post")

func basicHeader(id, secret string, encoding SecretEncoding) (string, error) {
	if encoding == EncodingRaw {
		if strings.Contains(id, ":") {
			return "", &smartcred.ConfigError{Option: "secret_encoding", Problem: "provider: build Basic header", Err: errColon}
		}
	} else {
		id, secret = formEncode(id), formEncode(secret)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret)), nil
}

// formEncode is application/x-www-form-urlencoded as the WHATWG defines it,
// where net/url differs on two characters.
func formEncode(s string) string { return whatwg.Replace(url.QueryEscape(s)) }

var whatwg = strings.NewReplacer("~", "%7E", "%2A", "*")
