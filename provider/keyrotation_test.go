package provider_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// A keyRing is a Signer with several keys, whose list can be out of reach.
type keyRing struct {
	mu    sync.Mutex
	keys  []signer.Key
	by    map[string]signer.Signer
	fails error
}

func newKeyRing(t *testing.T, versions ...string) *keyRing {
	t.Helper()
	r := &keyRing{by: map[string]signer.Signer{}}
	for _, version := range versions {
		private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s, err := signer.FromCryptoSigner(private, &signer.CryptoSignerOptions{Version: version})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := s.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r.keys, r.by[version] = append(r.keys, keys...), s
	}
	return r
}

func (r *keyRing) Keys(context.Context) ([]signer.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.keys), r.fails
}

func (r *keyRing) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	return r.by[key.Version].Sign(ctx, key, input)
}

// A refused key's successor can't be looked up: the call goes on with the keys
// that are known, and says so when all are refused.
func TestRefusalWhileTheKeysCannotBeListed(t *testing.T) {
	for name, tt := range map[string]struct {
		taken string // the version that the server takes
		want  []string
	}{
		"previous is taken":    {"1", []string{"2", "1"}},
		"all keys are refused": {"", []string{"2", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ring := newKeyRing(t, "2", "1")
				p, err := provider.NewPrivateKeyJWT(ring, &provider.PrivateKeyJWTOptions{KeySet: &signer.KeySetOptions{Observer: smartcred.Discard}})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if _, err := p.KeySet().Published(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // the list is due
				ring.mu.Lock()
				ring.fails = &smartcred.UnavailableError{Err: errors.New("no route")}
				ring.mu.Unlock()

				var sent []string
				err = p.Authenticate(t.Context(), provider.Request{ClientID: "app", URL: "https://ehr.example.test/token", GrantType: "client_credentials"},
					func(_ context.Context, cred provider.Credential) error {
						sent = append(sent, cred.Version)
						if cred.Version == tt.taken {
							return nil
						}
						return &provider.TokenError{Status: 401, Code: "invalid_client"}
					})
				if diff := cmp.Diff(tt.want, sent); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				if tt.taken != "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var refused *provider.RefusedError
				if !errors.As(err, &refused) || !errors.Is(refused.Lookup, smartcred.ErrUnavailable) || !errors.Is(err, provider.ErrInvalidClient) {
					t.Errorf("error %v, want one that says both", err)
				}
			})
		})
	}
}
