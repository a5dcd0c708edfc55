package smartauthtest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The grant types.
const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantClient  = "client_credentials"
)

func (s *Server) serveToken(x *exchange) *answer {
	if err := x.checkPost(); err != nil {
		return s.refusal(err)
	}
	c, err := s.authenticate(x)
	if err != nil {
		return s.refusal(err)
	}
	if instead := s.interrupt(x, Accepted); instead != nil {
		return instead
	}
	grantType := x.form.Get("grant_type")
	var members map[string]any
	switch grantType {
	case grantCode, grantRefresh, grantClient:
		if !c.mayUse(grantType) {
			return s.refusal(refuse("unauthorized_client", "the client may not use "+grantType))
		}
	case "":
		return s.refusal(refuse("invalid_request", "grant_type is missing"))
	default:
		return s.refusal(refuse("unsupported_grant_type", "grant_type is not supported"))
	}
	switch grantType {
	case grantCode:
		members, err = s.exchangeCode(x, c)
	case grantRefresh:
		members, err = s.exchangeRefresh(x, c)
	default:
		members, err = s.clientCredentials(x, c)
	}
	if err != nil {
		return s.refusal(err)
	}
	if s.opts.ModifyToken != nil {
		s.opts.ModifyToken(members)
	}
	return jsonAnswer(http.StatusOK, members)
}

// jsonAnswer is an answer that nobody may store, as RFC 6749 section 5.1 has it.
func jsonAnswer(status int, value any) *answer {
	body, err := json.Marshal(value)
	if err != nil {
		return plain(http.StatusInternalServerError, "a value put in by a hook is no JSON: "+err.Error()+"\n")
	}
	return &answer{status: status, body: body, header: http.Header{
		"Content-Type":  {"application/json"},
		"Cache-Control": {"no-store"},
		"Pragma":        {"no-cache"},
	}}
}

func (s *Server) clientCredentials(x *exchange, c *client) (map[string]any, *oauthError) {
	if !c.confidential() {
		return nil, refuse("unauthorized_client", "client_credentials is for confidential clients")
	}
	requested, ok := splitScope(x.form.Get("scope"))
	if !ok || len(requested) == 0 {
		return nil, refuse("invalid_scope", "scope is missing or malformed")
	}
	granted := grantable(requested, c.Scopes, true)
	if len(granted) == 0 {
		return nil, refuse("invalid_scope", "none of these scopes can be granted to the client")
	}
	f := &family{clientID: c.ID, scopes: granted}
	return s.tokenMembers(f, granted), nil
}

func (s *Server) exchangeCode(x *exchange, c *client) (map[string]any, *oauthError) {
	for _, name := range []string{"code", "redirect_uri", "code_verifier"} {
		if !x.form.Has(name) {
			return nil, refuse("invalid_request", name+" is missing")
		}
	}
	verifier := x.form.Get("code_verifier")
	if !validVerifier(verifier) {
		return nil, refuse("invalid_request", "code_verifier is not 43 to 128 unreserved characters")
	}
	f, err := s.grants.redeem(x.form.Get("code"), c.ID, x.form.Get("redirect_uri"), verifier, s.now())
	if err != nil {
		return nil, err
	}
	members := s.tokenMembers(f, f.scopes)
	s.addContext(members, f)
	if f.has("openid") {
		if err := s.addIDToken(members, f, f.nonce); err != nil {
			return nil, err
		}
	}
	if f.has("offline_access") || f.has("online_access") {
		members["refresh_token"] = s.newRefresh(f)
	}
	return members, nil
}

func (s *Server) newRefresh(f *family) string {
	var expires time.Time
	if s.opts.RefreshLifetime > 0 {
		expires = s.now().Add(s.opts.RefreshLifetime)
	}
	return s.grants.issueRefresh(&refreshToken{family: f, expires: expires})
}

// validVerifier checks RFC 7636 section 4.1.
func validVerifier(v string) bool {
	return len(v) >= 43 && len(v) <= 128 && strings.Trim(v, unreserved) == ""
}

const (
	base64url  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	unreserved = base64url + ".~"
)

func (s *Server) exchangeRefresh(x *exchange, c *client) (map[string]any, *oauthError) {
	if !x.form.Has("refresh_token") {
		return nil, refuse("invalid_request", "refresh_token is missing")
	}
	requested, ok := splitScope(x.form.Get("scope"))
	if !ok {
		return nil, refuse("invalid_scope", "scope is malformed")
	}
	scopes := requested
	f, err := s.grants.rotate(x.form.Get("refresh_token"), c.ID, s.now(), s.opts.KeepRefreshTokens, func(f *family) *oauthError {
		if requested == nil {
			scopes = f.scopes
		} else if !covers(f.scopes, requested) {
			return refuse("invalid_scope", "scope goes beyond what was granted")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	members := s.tokenMembers(f, scopes)
	s.addContext(members, f)
	if slices.Contains(scopes, "openid") {
		if err := s.addIDToken(members, f, ""); err != nil {
			return nil, err
		}
	}
	if !s.opts.KeepRefreshTokens {
		members["refresh_token"] = s.newRefresh(f)
	}
	return members, nil
}

func (s *Server) tokenMembers(f *family, scopes []string) map[string]any {
	return map[string]any{
		"access_token": s.newAccess(f, scopes),
		"token_type":   "Bearer",
		"expires_in":   int64(s.opts.TokenLifetime / time.Second),
		"scope":        strings.Join(scopes, " "),
	}
}

// addContext adds the launch context that the granted scopes call for.
func (s *Server) addContext(members map[string]any, f *family) {
	l := f.launch
	patient := f.has("launch") || f.has("launch/patient")
	for _, text := range f.scopes {
		sc, ok := parseScope(text)
		patient = patient || ok && sc.level == "patient"
	}
	if patient && l.Patient != "" {
		members["patient"] = l.Patient
	}
	if l.Encounter != "" && (f.has("launch") || f.has("launch/encounter")) {
		members["encounter"] = l.Encounter
	}
	if len(l.FHIRContext) > 0 {
		members["fhirContext"] = l.FHIRContext
	}
	if l.NeedPatientBanner != nil {
		members["need_patient_banner"] = *l.NeedPatientBanner
	}
	for name, value := range map[string]string{"intent": l.Intent, "smart_style_url": l.SmartStyleURL, "tenant": l.Tenant} {
		if value != "" {
			members[name] = value
		}
	}
	maps.Copy(members, l.Extra)
}
