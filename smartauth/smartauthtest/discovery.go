package smartauthtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// configuration is what tests changed about the SMART configuration.
type configuration struct {
	mu      sync.RWMutex
	raw     []byte         // in place of the whole document
	members map[string]any // over single members; nil removes one
	cache   string
}

// SetConfiguration serves document, whatever it is, as the SMART configuration;
// nil brings the real one back.
func (s *Server) SetConfiguration(document []byte) {
	s.config.mu.Lock()
	defer s.config.mu.Unlock()
	s.config.raw = slices.Clone(document)
}

// SetConfigurationMember sets one member of the SMART configuration to any
// value that json.Marshal takes; nil removes the member.
func (s *Server) SetConfigurationMember(name string, value any) {
	s.config.mu.Lock()
	defer s.config.mu.Unlock()
	if s.config.members == nil {
		s.config.members = make(map[string]any)
	}
	s.config.members[name] = value
}

// SetConfigurationCacheControl sets the Cache-Control of the SMART
// configuration, "max-age=300" at first; empty sends none.
func (s *Server) SetConfigurationCacheControl(value string) {
	s.config.mu.Lock()
	defer s.config.mu.Unlock()
	s.config.cache = value
}

// Configuration returns the SMART configuration that is being served.
func (s *Server) Configuration() []byte {
	s.config.mu.RLock()
	defer s.config.mu.RUnlock()
	if s.config.raw != nil {
		return slices.Clone(s.config.raw)
	}
	doc := s.metadata()
	for name, value := range s.config.members {
		if value == nil {
			delete(doc, name)
		} else {
			doc[name] = value
		}
	}
	body, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("smartauthtest: a member of the SMART configuration is no JSON: %v", err))
	}
	return body
}

func (s *Server) metadata() map[string]any {
	doc := map[string]any{
		"issuer":                                           s.Issuer,
		"jwks_uri":                                         s.JWKSURL,
		"authorization_endpoint":                           s.AuthorizeURL,
		"token_endpoint":                                   s.TokenURL,
		"introspection_endpoint":                           s.IntrospectionURL,
		"revocation_endpoint":                              s.RevocationURL,
		"grant_types_supported":                            []string{grantCode, grantRefresh, grantClient},
		"response_types_supported":                         []string{"code"},
		"code_challenge_methods_supported":                 []string{"S256"},
		"token_endpoint_auth_methods_supported":            []string{AuthClientSecretBasic, AuthClientSecretPost, AuthPrivateKeyJWT},
		"token_endpoint_auth_signing_alg_values_supported": s.opts.Algorithms,
		"scopes_supported": []string{
			"openid", "fhirUser", "launch", "launch/patient", "launch/encounter", "offline_access", "online_access",
			"patient/*.rs", "user/*.rs", "system/*.rs",
		},
		"capabilities": []string{
			"launch-ehr", "launch-standalone", "authorize-post",
			"client-public", "client-confidential-symmetric", "client-confidential-asymmetric",
			"sso-openid-connect", "context-banner", "context-style",
			"context-ehr-patient", "context-ehr-encounter", "context-standalone-patient", "context-standalone-encounter",
			"permission-offline", "permission-online", "permission-patient", "permission-user", "permission-v1", "permission-v2",
		},
	}
	if s.opts.IssParameter {
		doc["authorization_response_iss_parameter_supported"] = true
	}
	return doc
}

// readOnly answers everything but GET and HEAD.
func (s *Server) readOnly(x *exchange) *answer {
	if x.Method == http.MethodGet || x.Method == http.MethodHead {
		return nil
	}
	ans := plain(http.StatusMethodNotAllowed, "use GET\n")
	ans.header.Set("Allow", "GET, HEAD")
	return ans
}

func (s *Server) serveConfiguration(x *exchange) *answer {
	if ans := s.readOnly(x); ans != nil {
		return ans
	}
	body := s.Configuration()
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	header := http.Header{"Content-Type": {"application/json"}, "Etag": {etag}}
	s.config.mu.RLock()
	if s.config.cache != "" {
		header.Set("Cache-Control", s.config.cache)
	}
	s.config.mu.RUnlock()
	for candidate := range strings.SplitSeq(x.Header.Get("If-None-Match"), ",") {
		if candidate = strings.TrimSpace(candidate); candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
			header.Del("Content-Type")
			return &answer{status: http.StatusNotModified, header: header}
		}
	}
	return &answer{status: http.StatusOK, header: header, body: append(bytes.Clone(body), '\n')}
}

// serveOpenIDConfiguration serves what OpenID Connect Discovery requires at the
// issuer, for clients that look there.
func (s *Server) serveOpenIDConfiguration(x *exchange) *answer {
	if ans := s.readOnly(x); ans != nil {
		return ans
	}
	doc := s.metadata()
	maps.DeleteFunc(doc, func(name string, _ any) bool { return name == "capabilities" })
	doc["subject_types_supported"] = []string{"public"}
	doc["id_token_signing_alg_values_supported"] = []string{"RS256"}
	return jsonAnswer(http.StatusOK, doc)
}
