package signer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/url"
	"time"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smartcred/smartcred"
)

const (
	defaultLifetime = 4 * time.Minute
	maxLifetime     = 5 * time.Minute // SMART App Launch, asymmetric authentication
	backdate        = 10 * time.Second
)

// An Assertion describes a client assertion: RFC 7523 section 3 as SMART App
// Launch's asymmetric client authentication profiles it. Each [Assertion.Sign]
// makes a new one from it, with its own jti; a request that is sent again needs
// a new one.
//
// It is a value: copy it and change a field. It is safe for concurrent use as
// long as nobody writes to it or to its Header.
type Assertion struct {
	// ClientID is the client_id: iss and sub.
	ClientID string
	// Audience is aud: the token endpoint's URL exactly as it is posted to,
	// unless the server wants something else. It is sent as a JSON string.
	Audience string
	// Lifetime counts from now to exp; 0 or less: 4 minutes. More than 5 minutes
	// or less than a second is a [smartcred.ConfigError]. Fractions of seconds are cut.
	Lifetime time.Duration
	// JKU is the jku header member, the URL of the client's JWK Set as it was
	// registered: https (http on loopback only). Empty: no jku.
	JKU string
	// Header holds further header members, x5c for example. It can't hold alg,
	// typ, kid, jku or crit.
	Header map[string]any
	// Now tells the time; nil: [time.Now].
	Now func() time.Time
}

// Claims are the claims of a client assertion. Times are seconds since 1970.
type Claims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ExpiresAt int64  `json:"exp"`
	IssuedAt  int64  `json:"iat"` // 10 s ago, less where exp would be over 5 minutes away from it
	ID        string `json:"jti"` // 128 random bits, in hex
}

// Preview returns the header and claims that an assertion signed now by key
// would have, for showing to people. What [Assertion.Sign] sends has another jti.
func (a Assertion) Preview(key Key) (header map[string]any, claims Claims, err error) {
	if header, err = a.header(key); err == nil {
		claims, err = a.claims()
	}
	if err != nil {
		return nil, Claims{}, fmt.Errorf("signer: build assertion: %w", err)
	}
	return header, claims, nil
}

// Sign returns a new assertion by key, one of s's keys, and its jti for logs.
// The assertion itself is a credential: it must not be logged.
//
// What s answers is not verified: [KeySet] verifies each key's first signature.
func (a Assertion) Sign(ctx context.Context, s Signer, key Key) (assertion, jti string, err error) {
	header, claims, err := a.Preview(key)
	if err != nil {
		return "", "", err
	}
	ctx = context.WithValue(ctx, assertionID{}, claims.ID)
	assertion, err = signToken(ctx, s, key, header, tokenClaims{Claims: claims})
	if err != nil {
		return "", "", err
	}
	return assertion, claims.ID, nil
}

type assertionID struct{}

// AssertionID returns the jti of the assertion that a call of [Signer.Sign] is
// for, empty if it is for none. Backends whose audit log takes a correlation id
// send it, so that one search finds an assertion there and at the server.
func AssertionID(ctx context.Context) string {
	id, _ := ctx.Value(assertionID{}).(string)
	return id
}

// Check reports what [Assertion.Sign] would refuse of a, whatever the key.
func (a Assertion) Check() error {
	err := a.checkHeader()
	if err == nil {
		_, err = a.claims()
	}
	if err != nil {
		return fmt.Errorf("signer: check assertion: %w", err)
	}
	return nil
}

func (a Assertion) checkHeader() error {
	for _, reserved := range [...]string{"alg", "typ", "kid", "jku", "crit"} {
		if _, ok := a.Header[reserved]; ok {
			return &smartcred.ConfigError{Option: "header", Problem: "alg, typ, kid, jku and crit can't be added to the header"}
		}
	}
	if a.JKU != "" && !isPublishable(a.JKU) {
		return &smartcred.ConfigError{Option: "jwks_url", Problem: "is not an absolute https URL without user and fragment"}
	}
	return nil
}

func (a Assertion) header(key Key) (map[string]any, error) {
	if err := key.Check(); err != nil {
		return nil, err
	}
	if key.ID == "" {
		return nil, &smartcred.ConfigError{Option: "key_id", Problem: "the key has no kid, which every assertion names"}
	}
	if err := a.checkHeader(); err != nil {
		return nil, err
	}
	header := make(map[string]any, 4+len(a.Header))
	maps.Copy(header, a.Header)
	header["alg"] = string(key.Algorithm)
	header["typ"] = "JWT"
	header["kid"] = key.ID
	if a.JKU != "" {
		header["jku"] = a.JKU
	}
	return header, nil
}

func (a Assertion) claims() (Claims, error) {
	if a.ClientID == "" || !utf8.ValidString(a.ClientID) {
		return Claims{}, &smartcred.ConfigError{Option: "client_id", Problem: "is empty or not UTF-8"}
	}
	if a.Audience == "" || !utf8.ValidString(a.Audience) {
		return Claims{}, &smartcred.ConfigError{Option: "audience", Problem: "is empty or not UTF-8"}
	}
	lifetime := a.Lifetime.Truncate(time.Second)
	switch {
	case a.Lifetime <= 0:
		lifetime = defaultLifetime
	case a.Lifetime > maxLifetime:
		return Claims{}, &smartcred.ConfigError{Option: "assertion_lifetime", Problem: "is over 5 minutes, which SMART servers refuse"}
	case lifetime == 0:
		return Claims{}, &smartcred.ConfigError{Option: "assertion_lifetime", Problem: "is under a second"}
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	issued := now().Unix()
	expires := issued + int64(lifetime/time.Second)
	issued = max(issued-int64(backdate/time.Second), expires-int64(maxLifetime/time.Second))

	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return Claims{
		Issuer: a.ClientID, Subject: a.ClientID, Audience: a.Audience,
		ExpiresAt: expires, IssuedAt: issued, ID: hex.EncodeToString(id[:]),
	}, nil
}

// signToken is jwt.Token.SignedString with a Signer in its middle.
func signToken(ctx context.Context, s Signer, key Key, header map[string]any, claims jwt.Claims) (string, error) {
	token := &jwt.Token{Method: key.Algorithm.method(), Header: header, Claims: claims}
	input, err := token.SigningString()
	if err != nil {
		return "", fmt.Errorf("signer: build assertion: %w", err)
	}
	sig, err := s.Sign(ctx, key, []byte(input))
	if err != nil {
		return "", fmt.Errorf("signer: sign assertion with key %q: %w", key.ID, err)
	}
	return input + "." + token.EncodeSegment(sig), nil
}

func isPublishable(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !utf8.ValidString(raw) {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// tokenClaims are Claims that golang-jwt takes. Its own, which give the methods
// it asks for, write aud as an array and are left out of the JSON.
type tokenClaims struct {
	Claims
	jwt.RegisteredClaims `json:"-"`
}
