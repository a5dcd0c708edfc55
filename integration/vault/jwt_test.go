package vault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smartcred/smartcred"
)

// An issuer makes JWTs, as an identity provider or a cluster does.
type issuer struct {
	key    *ecdsa.PrivateKey
	public string // PEM
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

func (i *issuer) jwt(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	claims["iat"], claims["exp"] = time.Now().Add(-time.Minute).Unix(), time.Now().Add(time.Hour).Unix()
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, claims).SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestJWTAuth(t *testing.T) {
	b := newLoginBed(t)
	i := newIssuer(t)
	mount := b.vault.Auth(t, "jwt")
	b.vault.Write(t, "auth/"+mount+"/config", map[string]any{"jwt_validation_pubkeys": []string{i.public}, "bound_issuer": "https://issuer.example"})
	b.vault.Write(t, "auth/"+mount+"/role/smart", map[string]any{
		"role_type": "jwt", "bound_audiences": []string{"vault"}, "user_claim": "sub", "token_policies": b.policy,
	})
	claims := func(audience string) jwt.MapClaims {
		return jwt.MapClaims{"iss": "https://issuer.example", "sub": "my-app", "aud": audience}
	}
	path := tokenFile(t, i.jwt(t, claims("elsewhere")))
	s := b.open(t, map[string]string{"auth": "jwt", "auth_mount": mount, "role": "smart", "jwt_file": path}, smartcred.Discard)
	if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("with a JWT for somebody else: %v, want ErrDenied", err)
	}
	// Another JWT ends the wait after a failed login.
	writeFile(t, path, i.jwt(t, claims("vault")))
	eventually(t, func() error { _, err := s.Keys(t.Context()); return err })
	works(t, s)
}

// The real auth method, and of Kubernetes the one question that it asks there.
func TestKubernetesAuth(t *testing.T) {
	b := newLoginBed(t)
	i := newIssuer(t)
	listener, address := b.vault.Listen(t)
	var reviews atomic.Int64
	cluster := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct {
				Token     string
				Audiences []string
			}
		}
		if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" ||
			r.Header.Get("Authorization") != "Bearer reviewer" || json.NewDecoder(r.Body).Decode(&review) != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		reviews.Add(1)
		var claims jwt.MapClaims
		token, err := jwt.ParseWithClaims(review.Spec.Token, &claims, func(*jwt.Token) (any, error) { return i.key.Public(), nil })
		status := map[string]any{"authenticated": err == nil && token.Valid}
		if err == nil {
			status["audiences"] = review.Spec.Audiences
			status["user"] = map[string]any{"username": claims["sub"], "uid": "uid-1", "groups": []string{"system:serviceaccounts"}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "status": status})
	})}
	go cluster.Serve(listener)
	t.Cleanup(func() { cluster.Close() })

	mount := b.vault.Auth(t, "kubernetes")
	b.vault.Write(t, "auth/"+mount+"/config", map[string]any{
		"kubernetes_host": "http://" + address, "token_reviewer_jwt": "reviewer", "disable_local_ca_jwt": true,
	})
	b.vault.Write(t, "auth/"+mount+"/role/smart", map[string]any{
		"bound_service_account_names": "my-app", "bound_service_account_namespaces": "smart", "token_policies": b.policy,
	})
	serviceAccount := func(name string) string {
		return i.jwt(t, jwt.MapClaims{
			"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:smart:" + name, "aud": []string{"https://kubernetes.default.svc"},
			"kubernetes.io": map[string]any{"namespace": "smart", "serviceaccount": map[string]any{"name": name, "uid": "uid-1"}},
		})
	}
	options := func(name string) map[string]string {
		return map[string]string{"auth": "kubernetes", "auth_mount": mount, "role": "smart", "jwt_file": tokenFile(t, serviceAccount(name))}
	}
	works(t, b.open(t, options("my-app"), smartcred.Discard))
	if reviews.Load() == 0 {
		t.Error("Vault asked the cluster nothing")
	}
	if _, err := b.open(t, options("another-app"), smartcred.Discard).Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("another service account: %v, want ErrDenied", err)
	}
}
