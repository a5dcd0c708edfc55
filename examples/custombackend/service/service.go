// Package service is a key service for the example: private keys and secrets
// behind plain HTTP and a bearer token, in memory.
//
//	POST /keys/NAME                   {"keys": [{"version": "2", "pem": …}, …]}, newest first
//	POST /sign/NAME?version=2         a SHA-384 as body: {"signature": DER in base64}
//	POST /secrets/NAME?stage=current  or previous: {"value": …, "version": …}
//
// 404 is what does not exist, 401 a wrong token, 403 a key that is disabled.
package service

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// A Service serves one token's holder. Its zero value serves nobody.
type Service struct {
	mu       sync.Mutex
	token    string
	keys     map[string][]key
	secrets  map[string][]string // oldest first
	disabled map[string]bool
}

type key struct {
	private *ecdsa.PrivateKey
	public  string
}

// New returns an empty Service for who holds token.
func New(token string) *Service {
	return &Service{token: token, keys: map[string][]key{}, secrets: map[string][]string{}, disabled: map[string]bool{}}
}

// NewKey makes a P-384 key, the newest of that name.
func (s *Service) NewKey(name string) error {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name] = append(s.keys[name], key{private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))})
	return nil
}

// Disable ends the use of one version of a key.
func (s *Service) Disable(name, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disabled[name+"\x00"+version] = true
}

// SetSecret makes value the current secret of that name; an empty one removes all.
func (s *Service) SetSecret(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value == "" {
		delete(s.secrets, name)
		return
	}
	s.secrets[name] = append(s.secrets[name], value)
}

// SetToken gives the holder another token.
func (s *Service) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

// Handler returns the service's HTTP side.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /keys/{name}", s.listKeys)
	mux.HandleFunc("POST /sign/{name}", s.sign)
	mux.HandleFunc("POST /secrets/{name}", s.secret)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+s.token)) != 1 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Service) listKeys(w http.ResponseWriter, r *http.Request) {
	type listed struct {
		Version string `json:"version"`
		PEM     string `json:"pem"`
	}
	keys := s.keys[r.PathValue("name")]
	list := make([]listed, len(keys))
	for i, k := range keys {
		list[len(keys)-1-i] = listed{strconv.Itoa(i + 1), k.public}
	}
	answer(w, len(list) > 0, map[string]any{"keys": list})
}

func (s *Service) sign(w http.ResponseWriter, r *http.Request) {
	name, version := r.PathValue("name"), r.URL.Query().Get("version")
	n, err := strconv.Atoi(version)
	if err != nil || n < 1 || n > len(s.keys[name]) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if s.disabled[name+"\x00"+version] {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	digest, err := io.ReadAll(io.LimitReader(r.Body, 64))
	if err != nil || len(digest) != crypto.SHA384.Size() {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	der, err := ecdsa.SignASN1(rand.Reader, s.keys[name][n-1].private, digest)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	answer(w, true, map[string]any{"signature": der})
}

func (s *Service) secret(w http.ResponseWriter, r *http.Request) {
	versions := s.secrets[r.PathValue("name")]
	i := -1
	switch r.URL.Query().Get("stage") {
	case "current":
		i = len(versions) - 1
	case "previous":
		i = len(versions) - 2
	}
	if i < 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, true, map[string]any{"value": versions[i], "version": strconv.Itoa(i + 1)})
}

func answer(w http.ResponseWriter, found bool, body any) {
	if !found {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the client sees that it is cut off
}
