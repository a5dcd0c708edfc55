package smartauthtest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"time"
)

// A family is one approval by a user, or one client_credentials request, and
// all tokens that come of it.
type family struct {
	clientID string
	scopes   []string
	launch   Launch
	nonce    string
	authTime time.Time
	revoked  bool
}

func (f *family) has(scope string) bool { return slices.Contains(f.scopes, scope) }

type authorizationCode struct {
	*family
	redirectURI string
	challenge   string
	expires     time.Time
	used        bool
}

type accessToken struct {
	*family
	scopes  []string
	expires time.Time
	issued  time.Time
}

func (t *accessToken) scope() string { return strings.Join(t.scopes, " ") }

type refreshToken struct {
	*family
	expires time.Time // zero: never
	used    bool
}

// grants holds what was issued. Values in the maps are changed only under mu.
type grants struct {
	mu       sync.Mutex
	codes    map[string]*authorizationCode
	access   map[string]*accessToken
	refresh  map[string]*refreshToken
	launches map[string]Launch
	purgeAt  int
}

func (g *grants) init() {
	g.codes = make(map[string]*authorizationCode)
	g.access = make(map[string]*accessToken)
	g.refresh = make(map[string]*refreshToken)
	g.launches = make(map[string]Launch)
}

func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// purge drops what has long ended, once in a while. A used code is remembered
// for an hour, so that its reuse is noticed. mu is held.
func (g *grants) purge(now time.Time) {
	if len(g.access)+len(g.codes) < g.purgeAt {
		return
	}
	for token, t := range g.access {
		if !t.expires.After(now) {
			delete(g.access, token)
		}
	}
	for value, c := range g.codes {
		if c.expires.Add(time.Hour).Before(now) {
			delete(g.codes, value)
		}
	}
	g.purgeAt = max(1024, 2*(len(g.access)+len(g.codes)))
}

func (g *grants) addCode(c *authorizationCode, now time.Time) string {
	value := random()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.purge(now)
	g.codes[value] = c
	return value
}

// redeem uses a code up. A code used twice revokes what its first use gave
// (RFC 6749 section 4.1.2); a wrong redirect_uri or verifier uses it up, so that
// nobody can guess on.
func (g *grants) redeem(value, clientID, redirectURI, verifier string, now time.Time) (*family, *oauthError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.codes[value]
	switch {
	case c == nil:
		return nil, refuse("invalid_grant", "unknown code")
	case c.clientID != clientID:
		return nil, refuse("invalid_grant", "the code was issued to another client")
	case c.used:
		c.revoked = true
		return nil, refuse("invalid_grant", "the code was used before: its tokens are revoked")
	}
	c.used = true
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	switch {
	case !c.expires.After(now):
		return nil, refuse("invalid_grant", "the code has expired")
	case c.revoked:
		return nil, refuse("invalid_grant", "the authorization was revoked")
	case c.redirectURI != redirectURI:
		return nil, refuse("invalid_grant", "redirect_uri is not that of the authorization request")
	case subtle.ConstantTimeCompare([]byte(challenge), []byte(c.challenge)) == 0:
		return nil, refuse("invalid_grant", "code_verifier does not match the code_challenge")
	}
	return c.family, nil
}

// rotate uses a refresh token up, unless keep is set. One used twice revokes
// its family (RFC 9700 section 4.14.2). admit is asked before it is used up.
func (g *grants) rotate(value, clientID string, now time.Time, keep bool, admit func(*family) *oauthError) (*family, *oauthError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.refresh[value]
	switch {
	case t == nil:
		return nil, refuse("invalid_grant", "unknown refresh token")
	case t.clientID != clientID:
		return nil, refuse("invalid_grant", "the refresh token was issued to another client")
	case t.used:
		t.revoked = true
		return nil, refuse("invalid_grant", "the refresh token was used before: its family is revoked")
	case t.revoked:
		return nil, refuse("invalid_grant", "the refresh token was revoked")
	case !t.expires.IsZero() && !t.expires.After(now):
		return nil, refuse("invalid_grant", "the refresh token has expired")
	}
	if err := admit(t.family); err != nil {
		return nil, err
	}
	t.used = !keep
	return t.family, nil
}

func (g *grants) issueAccess(t *accessToken) string {
	value := random()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.purge(t.issued)
	g.access[value] = t
	return value
}

func (g *grants) issueRefresh(t *refreshToken) string {
	value := random()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refresh[value] = t
	return value
}

// active returns the access token if it is good at this time.
func (g *grants) active(value string, now time.Time) *accessToken {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.access[value]
	if t == nil || t.revoked || !t.expires.After(now) {
		return nil
	}
	return t
}

func (g *grants) activeRefresh(value string, now time.Time) *refreshToken {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.refresh[value]
	if t == nil || t.used || t.revoked || !t.expires.IsZero() && !t.expires.After(now) {
		return nil
	}
	return t
}

func (g *grants) clientOf(value string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.access[value]; t != nil {
		return t.clientID
	}
	return ""
}

// revoke ends one access token, or a refresh token's whole family. It reports
// false for a token of another client.
func (g *grants) revoke(value, clientID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.access[value]; t != nil {
		if t.clientID != clientID {
			return false
		}
		delete(g.access, value)
	}
	if t := g.refresh[value]; t != nil {
		if t.clientID != clientID {
			return false
		}
		t.revoked = true
	}
	return true
}

// RevokeTokens ends every access token. Refresh tokens stay good.
func (s *Server) RevokeTokens() {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	clear(s.grants.access)
}

// RevokeGrants ends everything issued: access tokens, refresh tokens and codes.
func (s *Server) RevokeGrants() {
	s.grants.mu.Lock()
	defer s.grants.mu.Unlock()
	clear(s.grants.access)
	for _, t := range s.grants.refresh {
		t.revoked = true
	}
	for _, c := range s.grants.codes {
		c.revoked = true
	}
}

// Active reports whether the FHIR server would take the access token now, scope
// aside.
func (s *Server) Active(token string) bool { return s.grants.active(token, s.now()) != nil }

// IssueToken makes an access token without a token request, with the launch
// context of the options.
func (s *Server) IssueToken(clientID, scope string) string {
	scopes := strings.Fields(scope)
	f := &family{clientID: clientID, scopes: scopes, launch: s.opts.Launch, authTime: s.now()}
	return s.newAccess(f, scopes)
}

func (s *Server) newAccess(f *family, scopes []string) string {
	now := s.now()
	return s.grants.issueAccess(&accessToken{family: f, scopes: scopes, issued: now, expires: now.Add(s.opts.TokenLifetime)})
}
