package smartauthtest

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/go-jose/go-jose/v4"
)

// idKeys are the keys for id_tokens, oldest first: the last one signs, all are
// published.
type idKeys struct {
	first *rsa.PrivateKey
	mu    sync.Mutex
	keys  []*rsa.PrivateKey
}

func (k *idKeys) list() ([]*rsa.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.keys) == 0 {
		key := k.first
		if key == nil {
			var err error
			if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
				return nil, err
			}
		}
		k.keys = []*rsa.PrivateKey{key}
	}
	return k.keys[:len(k.keys):len(k.keys)], nil
}

func idKeyName(i int) string { return "id-" + strconv.Itoa(i+1) }

// RotateSigningKey makes a new key for id_tokens, with a new kid. The JWK Set
// keeps the older ones.
func (s *Server) RotateSigningKey() error {
	if _, err := s.idKeys.list(); err != nil { // the first key must be there
		return fmt.Errorf("smartauthtest: make signing key: %w", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("smartauthtest: make signing key: %w", err)
	}
	s.idKeys.mu.Lock()
	defer s.idKeys.mu.Unlock()
	s.idKeys.keys = append(s.idKeys.keys, key)
	return nil
}

func (s *Server) serveJWKS(x *exchange) *answer {
	if ans := s.readOnly(x); ans != nil {
		return ans
	}
	keys, err := s.idKeys.list()
	if err != nil {
		return plain(http.StatusInternalServerError, "no signing key\n")
	}
	var set jose.JSONWebKeySet
	for i, key := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: idKeyName(i), Algorithm: "RS256", Use: "sig"})
	}
	ans := jsonAnswer(http.StatusOK, set)
	ans.header = http.Header{"Content-Type": {"application/jwk-set+json"}, "Cache-Control": {"max-age=300"}}
	return ans
}

// addIDToken adds an id_token by OpenID Connect Core section 2 with SMART's
// fhirUser. After a refresh there is no nonce (section 12.2).
func (s *Server) addIDToken(members map[string]any, f *family, nonce string) *oauthError {
	now := s.now()
	sub, fhirUser := s.user(f)
	claims := map[string]any{
		"iss": s.Issuer, "sub": sub, "aud": f.clientID,
		"iat": now.Unix(), "exp": now.Add(s.opts.TokenLifetime).Unix(), "auth_time": f.authTime.Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if fhirUser != "" {
		claims["fhirUser"] = fhirUser
	}
	if s.opts.ModifyIDToken != nil {
		s.opts.ModifyIDToken(claims)
	}
	signed, err := s.signIDToken(claims)
	if err != nil {
		return &oauthError{code: "server_error", reason: "the id_token can't be signed", status: http.StatusInternalServerError}
	}
	members["id_token"] = signed
	return nil
}

// user returns sub and, where the scope was granted, the absolute fhirUser.
func (s *Server) user(f *family) (sub, fhirUser string) {
	sub = f.launch.Subject
	setDefault(&sub, "user-1")
	if fhirUser = f.launch.FHIRUser; !f.has("fhirUser") {
		return sub, ""
	}
	if fhirUser != "" && !strings.Contains(fhirUser, "://") {
		fhirUser = s.URL + "/" + fhirUser
	}
	return sub, fhirUser
}

func (s *Server) signIDToken(claims map[string]any) (string, error) {
	keys, err := s.idKeys.list()
	if err != nil {
		return "", err
	}
	last := len(keys) - 1
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: keys[last], KeyID: idKeyName(last)}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}
