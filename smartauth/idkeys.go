package smartauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/internal/strictjson"
)

const (
	// refetchKeys is how often id tokens that no known key verifies may make the
	// key set be fetched again.
	refetchKeys = 10 * time.Second
	// maxIDKeys bounds the work that a key set can cause.
	maxIDKeys = 64
)

var errNoKey = errors.New("no key of the server's JWK Set verifies it")

// idKeys are the keys that an authorization server signs id tokens with. They
// are fetched when first needed, again when they are as old as a discovery
// document gets, and when an id token has an unknown key: some servers sign with
// a new key before they publish it. While they can't be fetched the last ones
// serve on.
type idKeys struct {
	client *Client
	url    string
	last   atomic.Pointer[idKeySet]
	flight flight.Flight[*idKeySet]
	// flights only: when an unknown key last made one, and why none has worked since
	forced    time.Time
	forcedErr error
}

type idKeySet struct {
	keys  []jose.JSONWebKey
	until time.Time
}

// idKeysAt returns the keys at url, those of the last call if it was for the same.
func (c *Client) idKeysAt(url string) *idKeys {
	for {
		k := c.idKeys.Load()
		if k != nil && k.url == url {
			return k
		}
		if fresh := (&idKeys{client: c, url: url}); c.idKeys.CompareAndSwap(k, fresh) {
			return fresh
		}
	}
}

// load makes sure that there are keys.
func (k *idKeys) load(ctx context.Context) error {
	last := k.last.Load()
	if last != nil && time.Now().Before(last.until) {
		return nil
	}
	_, err := k.flight.Do(ctx, k.client.cfg.Timeout, func(ctx context.Context) (*idKeySet, error) {
		if landed := k.last.Load(); landed != last {
			return landed, nil // of a flight that ended meanwhile
		}
		return k.fetch(ctx)
	})
	if err != nil && last != nil && ctx.Err() == nil {
		k.last.CompareAndSwap(last, &idKeySet{keys: last.keys, until: time.Now().Add(retryDiscovery)})
		return nil
	}
	return err
}

// errNoKeys says that a signature could not be checked for want of keys; it does
// not say that the signature is wrong.
type errNoKeys struct {
	cause   error
	payload []byte // as it came
}

func (e errNoKeys) Error() string { return errNoKey.Error() + "; fetching the set: " + e.cause.Error() }
func (e errNoKeys) Unwrap() error { return e.cause }

// verify returns what jwt signs. The error is errNoKeys where the keys can't be
// fetched, and those at hand do not tell. Its algorithm has been checked by the caller,
// and is checked again.
func (k *idKeys) verify(ctx context.Context, jwt string) ([]byte, error) {
	var algorithms []jose.SignatureAlgorithm
	for _, alg := range k.client.cfg.IDTokenAlgorithms {
		algorithms = append(algorithms, jose.SignatureAlgorithm(alg))
	}
	jws, err := jose.ParseSignedCompact(jwt, algorithms)
	if err != nil {
		return nil, errors.New("not a JWS in compact form")
	}
	set := k.last.Load()
	if payload, ok := set.verify(jws); ok {
		return payload, nil
	}
	known := set.has(jws)
	set, err = k.refetch(ctx)
	if err != nil && known {
		return nil, fmt.Errorf("%w; fetching the set again: %w", errNoKey, err)
	}
	if err != nil {
		return nil, errNoKeys{err, jws.UnsafePayloadWithoutVerification()}
	}
	if payload, ok := set.verify(jws); ok {
		return payload, nil
	}
	return nil, errNoKey
}

// refetch returns a newer set, or the one that a flight of late has fetched.
func (k *idKeys) refetch(ctx context.Context) (*idKeySet, error) {
	return k.flight.Do(ctx, k.client.cfg.Timeout, func(ctx context.Context) (*idKeySet, error) {
		now := time.Now()
		if !k.forced.IsZero() && now.Sub(k.forced) < refetchKeys {
			return k.last.Load(), k.forcedErr
		}
		k.forced = now
		var set *idKeySet
		set, k.forcedErr = k.fetch(ctx)
		return set, k.forcedErr
	})
}

func (k *idKeys) fetch(ctx context.Context) (set *idKeySet, err error) {
	err = k.client.run(ctx, func(ctx context.Context) error {
		set, err = k.get(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	k.last.Store(set)
	k.forcedErr = nil
	return set, nil
}

func (k *idKeys) get(ctx context.Context) (*idKeySet, error) {
	const op = "fetch id token keys"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, k.client.serverError(op, nil, errors.New("jwks_uri is no usable URL"))
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", k.client.cfg.UserAgent)
	resp, err := k.client.http.Do(req)
	if err != nil {
		return nil, k.client.serverError(op, nil, networkError(contextError(ctx, err)))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, k.client.serverError(op, resp, errors.New("no JWK Set"))
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, k.client.serverError(op, resp, networkError(contextError(ctx, err)))
	}
	keys, err := parseIDKeys(body)
	if err != nil {
		return nil, k.client.serverError(op, resp, err)
	}
	return &idKeySet{keys: keys, until: time.Now().Add(k.client.cfg.DiscoveryTTL)}, nil
}

// parseIDKeys reads a JWK Set (RFC 7517 section 5) and passes over keys that
// can't verify an id token.
func parseIDKeys(body []byte) ([]jose.JSONWebKey, error) {
	o, err := strictjson.Object(body)
	if err != nil {
		return nil, err
	}
	elements, state := o.Array("keys")
	if state != strictjson.Present {
		return nil, errors.New("no JWK Set")
	}
	var keys []jose.JSONWebKey
	for _, raw := range elements {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && canVerify(key) {
			keys = append(keys, key)
		}
		if len(keys) == maxIDKeys {
			break
		}
	}
	return keys, nil
}

func canVerify(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= 2048 && public.N.BitLen() <= 16384
	case *ecdsa.PublicKey:
		return true
	}
	return false
}

func (s *idKeySet) verify(jws *jose.JSONWebSignature) ([]byte, bool) {
	if s == nil || len(jws.Signatures) != 1 {
		return nil, false
	}
	header := jws.Signatures[0].Header
	for _, key := range s.keys {
		if header.KeyID != "" && header.KeyID != key.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, true
		}
	}
	return nil, false
}

// has reports whether the set has the key that jws names: then a signature that
// does not verify is wrong.
func (s *idKeySet) has(jws *jose.JSONWebSignature) bool {
	if s == nil || len(jws.Signatures) != 1 || jws.Signatures[0].Header.KeyID == "" {
		return false
	}
	return slices.ContainsFunc(s.keys, func(key jose.JSONWebKey) bool { return key.KeyID == jws.Signatures[0].Header.KeyID })
}
