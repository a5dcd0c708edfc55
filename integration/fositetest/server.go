package fositetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/openid"
	"github.com/ory/fosite/storage"
	"github.com/ory/fosite/token/jwt"
	"golang.org/x/crypto/bcrypt"
)

// What every server knows: the one redirect URL of its clients, a patient, and the
// user who logs in.
const (
	RedirectURL = "https://app.example/callback"
	PatientID   = "patient-1"
	FHIRUser    = "Practitioner/practitioner-1"
	UserSubject = "user-1"

	idTokenKey = "server-key-1"
)

// A Server is fosite with a SMART front: discovery document, aud check, launch
// context in token answers, and one FHIR resource.
type Server struct {
	*httptest.Server
	clients *clientStore
	oauth   fosite.OAuth2Provider
	idKey   jose.JSONWebKey

	mu       sync.Mutex
	requests []TokenRequest
}

// A TokenRequest is what one request to the token endpoint carried, and its answer.
type TokenRequest struct {
	Form          url.Values
	Authorization string // the header
	Status        int    // of the answer
}

// clientStore is fosite's memory store with clients that can be replaced while
// the server runs.
type clientStore struct {
	*storage.MemoryStore
	mu      sync.RWMutex
	clients map[string]fosite.Client
}

func (s *clientStore) GetClient(_ context.Context, id string) (fosite.Client, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	client, ok := s.clients[id]
	if !ok {
		return nil, fosite.ErrNotFound
	}
	return client, nil
}

// Register adds a client, or replaces the one of the same id.
func (s *Server) Register(client fosite.Client) {
	s.clients.mu.Lock()
	defer s.clients.mu.Unlock()
	s.clients.clients[client.GetID()] = client
}

// NewServer starts a server, over TLS or over http on loopback, and ends it with t.
func NewServer(t *testing.T, tls bool) *Server {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		clients: &clientStore{MemoryStore: storage.NewMemoryStore(), clients: map[string]fosite.Client{}},
		idKey:   jose.JSONWebKey{Key: key, KeyID: idTokenKey, Algorithm: "RS256", Use: "sig"},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /fhir/.well-known/smart-configuration", s.discovery)
	mux.HandleFunc("GET /fhir/Patient/"+PatientID, s.patient)
	mux.HandleFunc("GET /jwks", s.jwks)
	mux.HandleFunc("/authorize", s.authorize)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", s.revoke)
	mux.HandleFunc("POST /introspect", s.introspect)
	if tls {
		s.Server = httptest.NewTLSServer(mux)
	} else {
		s.Server = httptest.NewServer(mux)
	}
	t.Cleanup(s.Close)

	fetcher := retryablehttp.NewClient()
	fetcher.Logger = nil
	fetcher.RetryMax = 0
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	cfg := &fosite.Config{
		GlobalSecret:        secret,
		TokenURL:            s.URL + "/token",
		IDTokenIssuer:       s.URL,
		AccessTokenLifespan: 5 * time.Minute,
		HashCost:            bcrypt.MinCost,
		EnforcePKCE:         true,
		RefreshTokenScopes:  []string{"offline_access"},
		ScopeStrategy:       fosite.ExactScopeStrategy,
		JWKSFetcherStrategy: fosite.NewDefaultJWKSFetcherStrategy(fosite.JWKSFetcherWithHTTPClient(fetcher)),
	}
	signingKey := func(context.Context) (any, error) { return &s.idKey, nil }
	s.oauth = compose.Compose(cfg, s.clients,
		&compose.CommonStrategy{
			CoreStrategy:               compose.NewOAuth2HMACStrategy(cfg),
			OpenIDConnectTokenStrategy: compose.NewOpenIDConnectStrategy(signingKey, cfg),
			Signer:                     &jwt.DefaultSigner{GetPrivateKey: signingKey},
		},
		compose.OAuth2AuthorizeExplicitFactory,
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OpenIDConnectExplicitFactory,
		compose.OpenIDConnectRefreshFactory,
		compose.OAuth2TokenIntrospectionFactory,
		compose.OAuth2TokenRevocationFactory,
		compose.OAuth2PKCEFactory,
	)
	return s
}

// FHIRBase returns the FHIR base URL.
func (s *Server) FHIRBase() string { return s.URL + "/fhir" }

func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]any{
		"issuer":                                s.URL,
		"jwks_uri":                              s.URL + "/jwks",
		"authorization_endpoint":                s.URL + "/authorize",
		"token_endpoint":                        s.URL + "/token",
		"revocation_endpoint":                   s.URL + "/revoke",
		"introspection_endpoint":                s.URL + "/introspect",
		"grant_types_supported":                 []string{"authorization_code", "client_credentials", "refresh_token"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"RS384", "ES384"},
		"code_challenge_methods_supported":                 []string{"S256"},
		"capabilities": []string{
			"launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric", "client-confidential-asymmetric",
			"sso-openid-connect", "context-standalone-patient", "permission-offline", "permission-patient", "permission-v2",
		},
	})
}

func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.idKey.Public()}})
}

// authorize logs the user in and grants all that is asked for. fosite checks
// client, redirect URL, scopes, state and PKCE; aud is SMART's.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	req, err := s.oauth.NewAuthorizeRequest(ctx, r)
	if err != nil {
		s.oauth.WriteAuthorizeError(ctx, w, req, err)
		return
	}
	if req.GetRequestForm().Get("aud") != s.FHIRBase() {
		s.oauth.WriteAuthorizeError(ctx, w, req, fosite.ErrInvalidRequest.WithHint("aud is not this FHIR server."))
		return
	}
	for _, scope := range req.GetRequestedScopes() {
		req.GrantScope(scope)
	}
	session := openid.NewDefaultSession()
	session.Subject = UserSubject
	session.Claims.Subject = UserSubject
	session.Claims.Extra = map[string]any{"fhirUser": s.FHIRBase() + "/" + FHIRUser}
	session.Headers.Extra = map[string]any{"kid": idTokenKey}
	resp, err := s.oauth.NewAuthorizeResponse(ctx, req, session)
	if err != nil {
		s.oauth.WriteAuthorizeError(ctx, w, req, err)
		return
	}
	s.oauth.WriteAuthorizeResponse(ctx, w, req, resp)
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
	s.answerToken(recorder, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, TokenRequest{Form: r.PostForm, Authorization: r.Header.Get("Authorization"), Status: recorder.status})
}

func (s *Server) answerToken(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	req, err := s.oauth.NewAccessRequest(ctx, r, openid.NewDefaultSession())
	if err != nil {
		s.oauth.WriteAccessError(ctx, w, req, err)
		return
	}
	if req.GetGrantTypes().ExactOne("client_credentials") {
		for _, scope := range req.GetRequestedScopes() {
			req.GrantScope(scope)
		}
	}
	resp, err := s.oauth.NewAccessResponse(ctx, req)
	if err != nil {
		s.oauth.WriteAccessError(ctx, w, req, err)
		return
	}
	if req.GetGrantedScopes().Has("launch/patient") {
		resp.SetExtra("patient", PatientID)
		resp.SetExtra("need_patient_banner", true)
	}
	s.oauth.WriteAccessResponse(ctx, w, req, resp)
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	s.oauth.WriteRevocationResponse(ctx, w, s.oauth.NewRevocationRequest(ctx, r))
}

func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	resp, err := s.oauth.NewIntrospectionRequest(ctx, r, openid.NewDefaultSession())
	if err != nil {
		s.oauth.WriteIntrospectionError(ctx, w, err)
		return
	}
	s.oauth.WriteIntrospectionResponse(ctx, w, resp)
}

// patient answers whoever has a live access token of this server.
func (s *Server) patient(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if _, _, err := s.oauth.IntrospectToken(r.Context(), token, fosite.AccessToken, openid.NewDefaultSession()); err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	_ = json.NewEncoder(w).Encode(map[string]string{"resourceType": "Patient", "id": PatientID})
}

// TokenRequests returns what came to the token endpoint so far.
func (s *Server) TokenRequests() []TokenRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]TokenRequest(nil), s.requests...)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
