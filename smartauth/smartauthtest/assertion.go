package smartauthtest

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// authenticateJWT checks private_key_jwt by SMART's
// client-confidential-asymmetric, RFC 7523 section 3 and RFC 7515.
func (s *Server) authenticateJWT(x *exchange) (*client, *oauthError) {
	if x.form.Get("client_assertion_type") != assertionType {
		return nil, refuse("invalid_client", "client_assertion_type is not "+assertionType)
	}
	c, reason := s.checkAssertion(x, x.form.Get("client_assertion"))
	if reason != "" {
		return nil, refuse("invalid_client", reason)
	}
	if x.form.Has("client_id") {
		return nil, refuse("invalid_request", "client_id is in the body of a confidential client's request")
	}
	return c, nil
}

func (s *Server) checkAssertion(x *exchange, token string) (c *client, reason string) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, "client_assertion is no compact JWS"
	}
	header, reason := decodeJWTPart(parts[0], "header")
	if reason != "" {
		return nil, reason
	}
	alg, reason := s.checkHeader(header)
	if reason != "" {
		return nil, reason
	}
	claims, reason := decodeJWTPart(parts[1], "payload")
	if reason != "" {
		return nil, reason
	}
	iss, ok := stringMember(claims, "iss")
	if !ok {
		return nil, "iss is missing or no string"
	}
	if sub, ok := stringMember(claims, "sub"); !ok || sub != iss {
		return nil, "sub is not equal to iss"
	}
	if c = s.client(iss); c == nil {
		return nil, "iss is no registered client"
	}
	if !c.mayAuthenticate(AuthPrivateKeyJWT) || c.keys == nil {
		return nil, "the client may not use private_key_jwt"
	}
	if _, sent := header["jku"]; sent {
		if jku, ok := stringMember(header, "jku"); !ok || jku != c.JWKSURL {
			return nil, "jku is not the registered JWK Set URL"
		}
	}
	kid, _ := stringMember(header, "kid")
	public, err := c.keys.find(x.Context(), s, kid, alg)
	if err != nil {
		return nil, err.Error()
	}
	if _, err := decodeSegment(parts[2]); err != nil {
		return nil, "the signature is not base64url"
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return nil, "client_assertion is no JWS that can be verified"
	}
	if _, err := jws.Verify(public); err != nil {
		return nil, "the signature does not verify under the key with this kid"
	}
	if reason := s.checkAudience(x, claims["aud"]); reason != "" {
		return nil, reason
	}
	return c, s.checkTimes(iss, claims)
}

func decodeJWTPart(segment, name string) (map[string]json.RawMessage, string) {
	raw, err := decodeSegment(segment)
	if err != nil {
		return nil, "the " + name + " of the assertion is not base64url"
	}
	members, err := decodeObject(raw)
	if err != nil {
		return nil, "the " + name + " of the assertion: " + err.Error()
	}
	return members, ""
}

func stringMember(members map[string]json.RawMessage, name string) (string, bool) {
	var value *string
	if raw, ok := members[name]; !ok || json.Unmarshal(raw, &value) != nil || value == nil || *value == "" {
		return "", false
	}
	return *value, true
}

func (s *Server) checkHeader(header map[string]json.RawMessage) (alg, reason string) {
	if typ, ok := stringMember(header, "typ"); !ok || typ != "JWT" {
		return "", "typ is not JWT"
	}
	alg, _ = stringMember(header, "alg")
	if !slices.Contains(s.opts.Algorithms, alg) {
		return "", "alg is not one of " + strings.Join(s.opts.Algorithms, ", ")
	}
	if _, ok := stringMember(header, "kid"); !ok {
		return "", "kid is missing"
	}
	if _, sent := header["crit"]; sent {
		return "", "crit names extensions that this server does not know"
	}
	return alg, ""
}

func (s *Server) checkAudience(x *exchange, raw json.RawMessage) string {
	aud, ok := stringMember(map[string]json.RawMessage{"aud": raw}, "aud")
	if !ok {
		return "aud is not a string"
	}
	allowed := []string{s.opts.Audience}
	if s.opts.Audience == "" {
		allowed[0] = x.postedTo(s)
		if x.endpoint != EndpointToken {
			allowed = append(allowed, s.TokenURL)
		}
	}
	if !slices.Contains(allowed, aud) {
		return "aud is not " + allowed[0]
	}
	return ""
}

func (s *Server) checkTimes(iss string, claims map[string]json.RawMessage) string {
	now, leeway := s.now(), s.opts.Leeway
	exp, ok := numericDate(claims["exp"])
	switch {
	case !ok:
		return "exp is missing or no number"
	case !exp.After(now.Add(-leeway)):
		return "exp is past"
	case exp.After(now.Add(s.opts.MaxAssertionLifetime)):
		return "exp is more than " + s.opts.MaxAssertionLifetime.String() + " ahead"
	}
	for _, name := range []string{"iat", "nbf"} {
		raw, sent := claims[name]
		if !sent {
			continue
		}
		at, ok := numericDate(raw)
		if !ok {
			return name + " is no number"
		}
		if at.After(now.Add(leeway)) {
			return name + " is in the future"
		}
	}
	jti, ok := stringMember(claims, "jti")
	if !ok {
		return "jti is missing or no string"
	}
	if !s.replays.first(iss, jti, exp.Add(leeway), now) {
		return "jti was used before"
	}
	return ""
}

// numericDate reads RFC 7519's NumericDate: seconds, fractions allowed.
func numericDate(raw json.RawMessage) (time.Time, bool) {
	var seconds *float64
	if json.Unmarshal(raw, &seconds) != nil || seconds == nil || math.Abs(*seconds) > 1<<40 {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(*seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// A replayCache remembers the jti of each issuer as long as the assertion could
// be sent again.
type replayCache struct {
	mu      sync.Mutex
	seen    map[[2]string]time.Time
	purgeAt int
}

// first reports whether it sees the pair for the first time.
func (r *replayCache) first(iss, jti string, until, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := [2]string{iss, jti}
	if end, ok := r.seen[key]; ok && end.After(now) {
		return false
	}
	if r.seen == nil {
		r.seen = make(map[[2]string]time.Time)
	}
	if len(r.seen) >= r.purgeAt {
		for k, end := range r.seen {
			if !end.After(now) {
				delete(r.seen, k)
			}
		}
		r.purgeAt = max(1024, 2*len(r.seen))
	}
	r.seen[key] = until
	return true
}
