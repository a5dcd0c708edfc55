package smartauthtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const maxBody = 1 << 20

// A keySource is a client's JWK Set: given by value, or fetched and kept as
// long as its Cache-Control allows (SMART client-confidential-asymmetric).
type keySource struct {
	url string
	// turn is held by whoever looks at or fetches the set. A channel, because a
	// fetch may wait on a synctest clock, which a mutex would hold still.
	turn    chan struct{}
	set     *keySet
	err     error
	expires time.Time
}

func fixedKeys(raw []byte) *keySource {
	set, err := parseKeySet(raw)
	return &keySource{set: set, err: err}
}

func fetchedKeys(url string) *keySource {
	return &keySource{url: url, turn: make(chan struct{}, 1)}
}

// find returns the one key that can verify alg under kid.
func (k *keySource) find(ctx context.Context, s *Server, kid, alg string) (any, error) {
	if k.url == "" {
		if k.err != nil {
			return nil, k.err
		}
		return k.set.find(kid, alg)
	}
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-k.turn }()
	fetched := false
	if k.set == nil || !s.now().Before(k.expires) {
		if err := k.fetch(ctx, s); err != nil {
			return nil, err
		}
		fetched = true
	}
	key, err := k.set.find(kid, alg)
	if errors.Is(err, errUnknownKid) && !fetched && s.opts.RefetchUnknownKey {
		if err := k.fetch(ctx, s); err != nil {
			return nil, err
		}
		return k.set.find(kid, alg)
	}
	return key, err
}

func (k *keySource) fetch(ctx context.Context, s *Server) error {
	k.set = nil
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return errors.New("the registered JWK Set URL is malformed")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.opts.HTTPClient.Do(req)
	if err != nil {
		return errors.New("the JWK Set can't be fetched")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetching the JWK Set ended with status %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil || len(raw) > maxBody {
		return errors.New("the JWK Set can't be read")
	}
	set, err := parseKeySet(raw)
	if err != nil {
		return err
	}
	k.set, k.expires = set, s.now().Add(freshness(resp.Header))
	return nil
}

// freshness is how long a response may be kept: max-age less Age, nothing
// without max-age (RFC 9111 section 4.2, heuristics left out).
func freshness(h http.Header) time.Duration {
	var seconds int64
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32)
			if err != nil {
				return 0
			}
			seconds = n
		}
	}
	if age, err := strconv.ParseInt(h.Get("Age"), 10, 32); err == nil {
		seconds -= age
	}
	return time.Duration(max(seconds, 0)) * time.Second
}

var errUnknownKid = errors.New("no key of the JWK Set has this kid")

type keySet struct{ keys []setKey }

type setKey struct {
	kid, kty, alg string
	problem       string // why the key can't be used
	public        any
}

func parseKeySet(raw []byte) (*keySet, error) {
	members, err := decodeObject(raw)
	if err != nil {
		return nil, fmt.Errorf("the JWK Set is malformed: %w", err)
	}
	var list []json.RawMessage
	if err := json.Unmarshal(members["keys"], &list); err != nil || list == nil {
		return nil, errors.New("the JWK Set has no array keys")
	}
	set := new(keySet)
	for _, raw := range list {
		set.keys = append(set.keys, parseKey(raw))
	}
	return set, nil
}

func parseKey(raw []byte) (k setKey) {
	members, err := decodeObject(raw)
	if err != nil {
		return setKey{problem: "is no JSON object"}
	}
	var use string
	for name, into := range map[string]*string{"kid": &k.kid, "kty": &k.kty, "alg": &k.alg, "use": &use} {
		if value, ok := members[name]; ok && json.Unmarshal(value, into) != nil {
			k.problem = name + " is no string"
			return k
		}
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, ok := members[private]; ok {
			k.problem = "holds the private member " + private
			return k
		}
	}
	if ops, ok := members["key_ops"]; ok {
		var list []string
		if json.Unmarshal(ops, &list) != nil || !slices.Contains(list, "verify") {
			k.problem = "has key_ops without verify"
			return k
		}
	}
	if use != "" && use != "sig" {
		k.problem = "has a use other than sig"
		return k
	}
	if k.alg == "" {
		k.problem = "has no alg"
		return k
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil || !jwk.Valid() {
		k.problem = "is no valid JWK"
		return k
	}
	k.public = jwk.Key
	return k
}

// find selects the single key whose kid matches and whose kty fits alg: none
// and several are refusals alike.
func (s *keySet) find(kid, alg string) (any, error) {
	var found []setKey
	known := false
	for _, k := range s.keys {
		if k.kid == kid {
			known = true
			if k.kty == keyType(alg) {
				found = append(found, k)
			}
		}
	}
	switch {
	case !known:
		return nil, errUnknownKid
	case len(found) == 0:
		return nil, errors.New("the key with this kid has a kty that does not fit alg")
	case len(found) > 1:
		return nil, errors.New("several keys of the JWK Set have this kid and kty")
	}
	k := found[0]
	if k.problem != "" {
		return nil, errors.New("the key with this kid " + k.problem)
	}
	if k.alg != alg {
		return nil, errors.New("the key with this kid is for another alg")
	}
	if !fits(k.public, alg) {
		return nil, errors.New("the key with this kid is too small or on another curve")
	}
	return k.public, nil
}

func keyType(alg string) string {
	if strings.HasPrefix(alg, "ES") {
		return "EC"
	}
	return "RSA"
}

func fits(public any, alg string) bool {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		curve := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}[alg]
		return key.Curve == curve
	}
	return false
}
