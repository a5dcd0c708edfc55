// Package keyhouse is a backend for smartcred as a third party writes one: a
// signer and a secret source over an HTTP key service. Import it for its URIs,
// keyhouse://HOST/NAME?token-source=URI, for signers and secrets alike;
// token-source is where the service's bearer token is kept, percent-encoded.
package keyhouse

import (
	"bytes"
	"cmp"
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func init() {
	signer.Register("keyhouse", OpenSigner)
	secretsource.Register("keyhouse", OpenSource)
}

// OpenSigner and OpenSource are keyhouse's Openers.
func OpenSigner(ctx context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
	c, err := open(ctx, u, &opts.OpenOptions)
	return keys{c}, err
}

func OpenSource(ctx context.Context, u *url.URL, opts *secretsource.OpenOptions) (secretsource.Source, error) {
	c, err := open(ctx, u, opts)
	return secrets{c}, err
}

type client struct {
	base   string              // with %s for what is asked for
	token  *secretsource.Cache // for a minute, and past the source's outages
	http   http.Client
	closed atomic.Bool
}

func open(ctx context.Context, u *url.URL, opts *secretsource.OpenOptions) (*client, error) {
	query, err := secretsource.CheckQuery(u, "token-source")
	token, openErr := secretsource.Open(ctx, query.Get("token-source"), opts)
	if err = cmp.Or(err, openErr); err != nil || u.Host == "" || len(u.Path) < 2 || u.User != nil || u.Fragment != "" {
		return nil, &smartcred.ConfigError{Problem: "not of the form keyhouse://HOST/NAME?token-source=URI", Err: err}
	}
	onLoopback := opts.AllowInsecureLoopback && net.ParseIP(u.Hostname()).IsLoopback()
	scheme := map[bool]string{false: "https", true: "http"}[onLoopback]
	c := &client{base: scheme + "://" + u.Host + "/%s/" + url.PathEscape(u.Path[1:]), token: secretsource.NewCache(token, nil)}
	c.http.Transport = &http.Transport{}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

func (c *client) Close() error {
	c.closed.Store(true)
	c.http.CloseIdleConnections()
	return c.token.Close()
}

// ask reads the service's answer into result. No error holds the token, or a byte of it.
func (c *client) ask(ctx context.Context, kind, query string, body []byte, result any) error {
	if c.closed.Load() {
		return fmt.Errorf("keyhouse: %w", smartcred.ErrClosed)
	}
	token, err := c.token.Lookup(ctx, secretsource.Current)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf(c.base, kind)+query, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(token.Reveal()))
	resp, err := c.http.Do(req)
	if err != nil {
		return outage(ctx, errors.Unwrap(err)) // the outer one has the URL
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(result) == nil {
			return nil
		}
	case http.StatusNotFound:
		return fmt.Errorf("keyhouse: %s: %w", kind, smartcred.ErrNotFound)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("keyhouse: %s: %w", kind, smartcred.ErrDenied)
	}
	return outage(ctx, fmt.Errorf("no answer of the service's, status %d", resp.StatusCode))
}

// outage is err, unless the caller left.
func outage(ctx context.Context, err error) error {
	return fmt.Errorf("keyhouse: %w", cmp.Or(ctx.Err(), error(&smartcred.UnavailableError{Err: err})))
}

type secrets struct{ *client }

func (s secrets) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	var said struct{ Value, Version string }
	if err := s.ask(ctx, "secrets", "?stage="+url.QueryEscape(stage.String()), nil, &said); err != nil {
		return secretsource.Secret{}, err
	}
	return secretsource.New([]byte(said.Value), said.Version), nil
}

type keys struct{ *client }

func (s keys) Keys(ctx context.Context) (list []signer.Key, err error) {
	var said struct {
		Keys []struct{ Version, PEM string }
	}
	err = s.ask(ctx, "keys", "", nil, &said)
	for _, k := range said.Keys {
		key := signer.Key{Version: k.Version, Algorithm: signer.ES384, Custody: signer.Custody{
			Level: signer.CustodyGenerated, Evidence: "the key service makes its keys itself"}}
		if block, _ := pem.Decode([]byte(k.PEM)); block != nil {
			key.Public, _ = x509.ParsePKIXPublicKey(block.Bytes) // Thumbprint says what is wrong
		}
		if key.ID, err = signer.Thumbprint(key.Public); err != nil {
			return nil, outage(ctx, err)
		}
		list = append(list, key)
	}
	return list, err
}

func (s keys) Sign(ctx context.Context, key signer.Key, signingInput []byte) ([]byte, error) {
	if _, err := signer.AlgorithmFor(key.Public, key.Algorithm); key.Algorithm != signer.ES384 || err != nil {
		return nil, fmt.Errorf("keyhouse: sign with key %q: %w", key.ID, smartcred.ErrUnsupportedAlgorithm)
	}
	var said struct{ Signature []byte }
	if err := s.ask(ctx, "sign", "?version="+url.QueryEscape(key.Version), key.Algorithm.Digest(signingInput), &said); err != nil {
		return nil, err
	}
	return signer.RawFromDER(elliptic.P384(), said.Signature)
}
