package fosite_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/provider"
)

func TestClientCredentials(t *testing.T) {
	servers(t, func(t *testing.T, s *fositetest.Server) {
		for _, l := range logins {
			if l.method == provider.MethodNone {
				continue
			}
			t.Run(l.name, func(t *testing.T) {
				before := len(s.TokenRequests())
				id := "backend service: " + l.name
				client := newClient(t, s, id, l.register(t, s, id), fositetest.SystemScopes)
				token, err := client.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(fositetest.SystemScopes, token.Scopes); diff != "" {
					t.Errorf("scopes (-want +got):\n%s", diff)
				}
				if in, stated := token.ExpiresIn(); !stated || in > 5*time.Minute || in < 4*time.Minute {
					t.Errorf("expires in %s (stated: %v), want 5 minutes", in, stated)
				}
				for range 2 {
					readPatient(t, client.HTTPClient(), s)
				}
				requests := s.TokenRequests()[before:]
				if len(requests) != 1 {
					t.Fatalf("%d token requests, want 1", len(requests))
				}
				checkProof(t, l.method, requests[0])
			})
		}
	})
}

// readPatient reads a resource with whatever token client sends.
func readPatient(t *testing.T, client *http.Client, s *fositetest.Server) {
	t.Helper()
	resp, err := client.Get(s.FHIRBase() + "/Patient/" + fositetest.PatientID)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the FHIR server answered %s", resp.Status)
	}
}

// checkProof checks that a request carries the proof of one method and no other,
// and client_id only where the method has it in the body.
func checkProof(t *testing.T, method provider.Method, r fositetest.TokenRequest) {
	t.Helper()
	got := map[string]bool{"Authorization": r.Authorization != ""}
	for _, name := range []string{"client_id", "client_secret", "client_assertion", "client_assertion_type"} {
		got[name] = r.Form.Has(name)
	}
	want := map[string]bool{
		"Authorization":         method == provider.MethodClientSecretBasic,
		"client_id":             method == provider.MethodNone || method == provider.MethodClientSecretPost,
		"client_secret":         method == provider.MethodClientSecretPost,
		"client_assertion":      method == provider.MethodPrivateKeyJWT,
		"client_assertion_type": method == provider.MethodPrivateKeyJWT,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s request with (-want +got):\n%s", r.Form.Get("grant_type"), diff)
	}
}

func TestPublicClientHasNoClientCredentials(t *testing.T) {
	s := fositetest.NewServer(t, true)
	s.Register(fositetest.Registration("public", provider.MethodNone))
	_, err := newClient(t, s, "public", provider.Public{}, fositetest.SystemScopes).Token(t.Context())
	refused(t, err, provider.ErrInvalidGrant, http.StatusBadRequest)
}
