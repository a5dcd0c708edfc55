package smartauthtest

import (
	"net/http"
	"slices"
	"strings"
)

// bearer returns the request's access token if it came in the Authorization
// header (RFC 6750 section 2.1).
func bearer(h http.Header) (token string, ok bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// serveIntrospect answers RFC 7662 with SMART's members. The caller shows an
// access token or authenticates as a confidential client.
func (s *Server) serveIntrospect(x *exchange) *answer {
	if err := x.checkPost(); err != nil {
		return s.refusal(err)
	}
	if token, ok := bearer(x.Header); ok {
		if x.form.Has("client_secret") || x.form.Has("client_assertion") {
			return s.refusal(refuse("invalid_request", "more than one way of client authentication in one request"))
		}
		if s.grants.active(token, s.now()) == nil {
			ans := s.refusal(&oauthError{code: "invalid_token", reason: "the access token is not valid", status: http.StatusUnauthorized})
			ans.header.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			return ans
		}
	} else {
		c, err := s.authenticate(x)
		if err != nil {
			return s.refusal(err)
		}
		if !c.confidential() {
			return s.refusal(refuse("invalid_client", "a public client can't introspect without an access token"))
		}
	}
	if !x.form.Has("token") {
		return s.refusal(refuse("invalid_request", "token is missing"))
	}
	if instead := s.interrupt(x, Accepted); instead != nil {
		return instead
	}
	return jsonAnswer(http.StatusOK, s.introspect(x.form.Get("token")))
}

func (s *Server) introspect(token string) map[string]any {
	now := s.now()
	if t := s.grants.activeRefresh(token, now); t != nil {
		members := map[string]any{"active": true, "client_id": t.clientID, "scope": strings.Join(t.scopes, " ")}
		if !t.expires.IsZero() {
			members["exp"] = t.expires.Unix()
		}
		return members
	}
	t := s.grants.active(token, now)
	if t == nil {
		return map[string]any{"active": false}
	}
	members := map[string]any{}
	if !t.authTime.IsZero() {
		s.addContext(members, t.family)
	}
	members["active"] = true
	members["client_id"] = t.clientID
	members["scope"] = t.scope()
	members["exp"] = t.expires.Unix()
	members["iat"] = t.issued.Unix()
	members["token_type"] = "Bearer"
	if slices.Contains(t.scopes, "openid") {
		sub, fhirUser := s.user(t.family)
		members["iss"], members["sub"] = s.Issuer, sub
		if fhirUser != "" {
			members["fhirUser"] = fhirUser
		}
	}
	return members
}

// serveRevoke answers RFC 7009: an unknown token is as good as revoked, one of
// another client is refused.
func (s *Server) serveRevoke(x *exchange) *answer {
	if err := x.checkPost(); err != nil {
		return s.refusal(err)
	}
	c, err := s.authenticate(x)
	if err != nil {
		return s.refusal(err)
	}
	if !x.form.Has("token") {
		return s.refusal(refuse("invalid_request", "token is missing"))
	}
	if instead := s.interrupt(x, Accepted); instead != nil {
		return instead
	}
	if !s.grants.revoke(x.form.Get("token"), c.ID) {
		return s.refusal(refuse("unauthorized_client", "the token was issued to another client"))
	}
	return &answer{status: http.StatusOK, header: http.Header{"Cache-Control": {"no-store"}}}
}
