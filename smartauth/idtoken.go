package smartauth

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/smartcred/smartcred/internal/strictjson"
)

// idTokenAlgorithms are what [Config.IDTokenAlgorithms] may have.
var idTokenAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}

const (
	// idTokenSkew is how long after exp an id token is still taken.
	idTokenSkew = 60 * time.Second
	// idTokenAhead is how far in the future iat may be.
	idTokenAhead = 5 * time.Minute
)

// An Identity is what a validated id token says about the user (OpenID Connect
// Core section 2, SMART App Launch "Scopes for requesting identity data").
// It is immutable.
type Identity struct {
	// Server is the FHIR base URL of the server that the user logged in at.
	Server string
	// Issuer and Subject together name the user, for ever. The issuer is
	// [Config.Issuer]; where that is not stated it is the one that the server
	// names, which is then on the token endpoint's origin, or has confirmed
	// with its own OpenID configuration that it signs with the server's keys.
	Issuer, Subject string
	// FHIRUser is the absolute URL of the user's Patient, Practitioner,
	// PractitionerRole, RelatedPerson or Person at the FHIR base; empty if the
	// id token names none.
	FHIRUser string
	// IssuedAt and Expiry are the id token's, not the session's.
	IssuedAt, Expiry time.Time

	claims func() []byte
}

// Claims returns a copy of all claims, as the JSON object that was signed.
func (i *Identity) Claims() json.RawMessage {
	if i == nil || i.claims == nil {
		return nil
	}
	return bytes.Clone(i.claims())
}

// Claim returns a copy of one claim under its exact name.
func (i *Identity) Claim(name string) (json.RawMessage, bool) {
	o, err := strictjson.Object(i.Claims())
	if err != nil {
		return nil, false
	}
	return o.Raw(name)
}

// Identity returns what the id token says, which [Client.Exchange] or
// [Client.Refresh] validated, also after [RestoreToken]. It is nil where the
// scope openid was not asked for, and in a token that [ParseToken] read: that
// validates nothing.
func (t *Token) Identity() *Identity {
	if t == nil {
		return nil
	}
	return t.identity
}

// idTokenVerifier validates id tokens of one issuer, with keys that it has.
type idTokenVerifier struct {
	cfg    *Config
	issuer string
	keys   *idKeys
	// withoutKeys takes an id token whose signature can't be checked because
	// the keys can't be fetched. Its claims are checked all the same.
	withoutKeys bool
	keysErr     error // why it was taken so
}

// idTokenVerifier returns a verifier for one id token. With [loadKeys] all that
// can fail for want of a network fails before a code or refresh token is used up.
// before is the issuer so far; empty if there is none.
func (c *Client) idTokenVerifier(ctx context.Context, before string) (*idTokenVerifier, error) {
	doc, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	issuer, err := c.issuer(ctx, doc)
	switch {
	case err != nil:
		return nil, err
	case issuer == "":
		return nil, fmt.Errorf("the SMART configuration has no issuer to hold it to; state issuer in the configuration: %w", ErrIDToken)
	case before != "" && before != issuer:
		return nil, fmt.Errorf("%w: the issuer is another than before: %w", ErrIDToken, ErrIssuerMismatch)
	case doc.JWKSURI == "":
		return nil, fmt.Errorf("the SMART configuration has no usable jwks_uri: %w", ErrIDToken)
	}
	if err := c.allow("jwks_uri", doc.JWKSURI); err != nil {
		return nil, err
	}
	return &idTokenVerifier{cfg: c.cfg, issuer: issuer, keys: c.idKeysAt(doc.JWKSURI)}, nil
}

// loadKeys makes sure that there are keys.
func (v *idTokenVerifier) loadKeys(ctx context.Context) error { return v.keys.load(ctx) }

// patience bounds the wait for keys that are not needed.
func (v *idTokenVerifier) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if !v.withoutKeys {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, discoveryPatience)
}

// verify validates token's id token, OpenID Connect Core section 3.1.3.7. A
// nonce that is not empty must come back. The errors match [ErrIDToken] and are
// this package's own: go-oidc's quote what the server sent.
func (v *idTokenVerifier) verify(ctx context.Context, token *Token, nonce string) (*Identity, error) {
	raw := token.IDToken()
	if raw == "" {
		return nil, fmt.Errorf("%w: the answer has none, although openid was asked for", ErrIDToken)
	}
	signed := &signedPayload{keys: v.keys, withoutKeys: v.withoutKeys}
	id, err := oidc.NewVerifier(v.issuer, signed, &oidc.Config{
		SupportedSigningAlgs: v.cfg.IDTokenAlgorithms,
		Now:                  func() time.Time { return time.Now().Add(-idTokenSkew) },
		// Both are checked below, to tell which one failed.
		SkipIssuerCheck: true, SkipClientIDCheck: true,
	}).Verify(ctx, raw)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		err = errors.New("exp: has passed, or is not there")
	case err == nil:
		err = v.checkClaims(id, signed.payload, token, nonce)
	case signed.err != nil:
		err = signed.err
	case signed.payload == nil:
		err = fmt.Errorf("not a JWS signed with %s", strings.Join(v.cfg.IDTokenAlgorithms, " or "))
	default:
		err = errors.New("claims of a wrong type, or not valid yet")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	v.keysErr = signed.unchecked
	return v.identity(id, signed.payload)
}

// signedPayload is the key set of one verification, and remembers how it went.
type signedPayload struct {
	keys        *idKeys
	withoutKeys bool
	payload     []byte
	err         error
	unchecked   error // why the signature was not checked
}

// VerifySignature implements [oidc.KeySet].
func (s *signedPayload) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	s.payload, s.err = s.keys.verify(ctx, jwt)
	var noKeys errNoKeys
	if s.withoutKeys && errors.As(s.err, &noKeys) {
		s.payload, s.err, s.unchecked = noKeys.payload, nil, noKeys.cause
	}
	return s.payload, s.err
}

// knownClaims are the claims that mean something here. Go's JSON decoder takes
// them in any case; a claims set that makes use of that is refused.
var knownClaims = []string{"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "nonce", "at_hash", "fhirUser", "profile"}

func (v *idTokenVerifier) checkClaims(id *oidc.IDToken, payload []byte, token *Token, nonce string) error {
	o, err := strictjson.Object(payload)
	if err != nil {
		return err
	}
	if len(o.Duplicates) > 0 {
		return errors.New("a claim appears twice")
	}
	for _, name := range o.Names {
		if slices.ContainsFunc(knownClaims, func(known string) bool { return name != known && strings.EqualFold(name, known) }) {
			return errors.New("a claim's name differs from a registered one by case only")
		}
	}
	azp, azpState := o.String("azp")
	_, hasIssuedAt := o.Raw("iat")
	switch {
	case id.Issuer != v.issuer:
		return fmt.Errorf("iss: %w", ErrIssuerMismatch)
	case id.Subject == "":
		return errors.New("sub: is not there")
	case !slices.Contains(id.Audience, v.cfg.ClientID):
		return errors.New("aud: lacks this client's id")
	case azpState == strictjson.Absent && len(id.Audience) > 1:
		return errors.New("azp: is not there, although aud has several values")
	case azpState != strictjson.Absent && azp != v.cfg.ClientID:
		return errors.New("azp: is not this client's id")
	case !hasIssuedAt:
		return errors.New("iat: is not there")
	case id.IssuedAt.After(time.Now().Add(idTokenAhead)):
		return fmt.Errorf("iat: is more than %s ahead of this machine's clock", idTokenAhead)
	case nonce != "" && subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return errors.New("nonce: is not the one that was sent")
	case id.AccessTokenHash != "" && id.VerifyAccessToken(token.AccessToken()) != nil:
		return errors.New("at_hash: is not of this access token")
	}
	return nil
}

func (v *idTokenVerifier) identity(id *oidc.IDToken, payload []byte) (*Identity, error) {
	user, err := fhirUserOf(payload, v.cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIDToken, err)
	}
	return &Identity{
		Server: v.cfg.BaseURL, Issuer: id.Issuer, Subject: id.Subject, FHIRUser: user, IssuedAt: id.IssuedAt, Expiry: id.Expiry,
		claims: func() []byte { return payload },
	}, nil
}

// fhirUserOf returns the fhirUser claim as an absolute URL, empty if there is
// none. Version 1 of SMART App Launch had it as profile, which OpenID Connect
// has for something else: a profile that is no such URL means nothing.
func fhirUserOf(claims []byte, base string) (string, error) {
	o, err := strictjson.Object(claims)
	if err != nil {
		return "", err
	}
	value, state := o.String("fhirUser")
	if state == strictjson.Absent {
		profile, _ := o.String("profile")
		user, _ := resolveFHIRUser(base, profile)
		return user, nil
	}
	user, ok := resolveFHIRUser(base, value)
	if !ok {
		return "", errors.New("fhirUser: is not a Patient, Practitioner, PractitionerRole, RelatedPerson or Person at the FHIR base")
	}
	return user, nil
}

var fhirUserTypes = []string{"Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person"}

// resolveFHIRUser returns value, a URL on the FHIR base or relative to it, as an
// absolute one.
func resolveFHIRUser(base, value string) (string, bool) {
	reference := value
	if u, err := url.Parse(value); err == nil && u.IsAbs() {
		b, err := url.Parse(base)
		if err != nil || origin(u) != origin(b) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return "", false
		}
		var below bool
		if reference, below = strings.CutPrefix(u.EscapedPath(), strings.TrimRight(b.EscapedPath(), "/")+"/"); !below {
			return "", false
		}
	}
	kind, id, _ := strings.Cut(reference, "/")
	if !slices.Contains(fhirUserTypes, kind) || !isFHIRID(id) {
		return "", false
	}
	return base + "/" + reference, true
}

// isFHIRID reports whether s is of FHIR's data type id, and no dot segment.
func isFHIRID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, ".") != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r == '-' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	})
}
