package fosite_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/smartauth"
)

func TestAuthorizationCode(t *testing.T) {
	servers(t, func(t *testing.T, s *fositetest.Server) {
		for _, l := range logins {
			t.Run(l.name, func(t *testing.T) {
				before := len(s.TokenRequests())
				id := "web app: " + l.name
				client := newClient(t, s, id, l.register(t, s, id), fositetest.UserScopes)
				token := fositetest.LogIn(t, s, client, fositetest.Get)
				checkUserToken(t, s, token)
				source := client.SessionSource(token, nil)
				readPatient(t, &http.Client{Transport: client.Transport(source)}, s)

				renewed, err := client.Refresh(t.Context(), token, nil)
				if err != nil {
					t.Fatal(err)
				}
				checkUserToken(t, s, renewed)
				if renewed.RefreshToken() == token.RefreshToken() || renewed.AccessToken() == token.AccessToken() {
					t.Error("fosite rotates both tokens: one of them is the old one")
				}
				if renewed.IDToken() == token.IDToken() {
					t.Error("the id token is the old one")
				}
				readPatient(t, &http.Client{Transport: client.Transport(client.SessionSource(renewed, nil))}, s)

				requests := s.TokenRequests()[before:]
				var grants []string
				for _, r := range requests {
					grants = append(grants, r.Form.Get("grant_type"))
					checkProof(t, l.method, r)
				}
				if diff := cmp.Diff([]string{"authorization_code", "refresh_token"}, grants); diff != "" {
					t.Errorf("grants (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestAuthorizationRequestByPost(t *testing.T) {
	s := fositetest.NewServer(t, true)
	client := newClient(t, s, "app", logins[0].register(t, s, "app"), fositetest.UserScopes)
	checkUserToken(t, s, fositetest.LogIn(t, s, client, fositetest.Post))
}

// checkUserToken checks what the server says about user and launch.
func checkUserToken(t *testing.T, s *fositetest.Server, token *smartauth.Token) {
	t.Helper()
	if missing := token.MissingScopes(fositetest.UserScopes); len(missing) > 0 {
		t.Errorf("scopes that were not granted: %v", missing)
	}
	if token.RefreshToken() == "" {
		t.Error("no refresh token")
	}
	if c := token.Context; c.Patient != fositetest.PatientID || c.NeedPatientBanner == nil || !*c.NeedPatientBanner {
		t.Errorf("launch context %+v", c)
	}
	identity := token.Identity()
	if identity == nil {
		t.Fatal("no identity")
	}
	got := []string{identity.Issuer, identity.Subject, identity.FHIRUser}
	want := []string{s.URL, fositetest.UserSubject, s.FHIRBase() + "/" + fositetest.FHIRUser}
	if !slices.Equal(got, want) {
		t.Errorf("identity %q, want %q", got, want)
	}
}
