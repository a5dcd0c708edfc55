package smartauthtest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestAssertionVectors(t *testing.T) {
	type vector struct {
		Name   string `json:"name"`
		Key    string `json:"key"`
		Valid  bool   `json:"valid"`
		Header struct {
			Kid string `json:"kid"`
			JKU string `json:"jku"`
		} `json:"header"`
		Claims struct {
			Iss string `json:"iss"`
			Aud string `json:"aud"`
			IAT int64  `json:"iat"`
		} `json:"claims"`
		KidInJWKS bool   `json:"kid_in_jwks"`
		JWT       string `json:"jwt"`
	}
	keys := readJSON[struct {
		Keys []object `json:"keys"`
	}](t, "jwks.json").Keys
	thumbprints := make(map[string]string)
	for _, tp := range readJSON[[]struct {
		Key        string `json:"key"`
		Thumbprint string `json:"thumbprint_sha256"`
	}](t, "thumbprints.json") {
		thumbprints[tp.Key] = tp.Thumbprint
	}
	for _, v := range readJSON[[]vector](t, "assertions.json") {
		t.Run(v.Name, func(t *testing.T) {
			set := slices.Clone(keys)
			if !v.KidInJWKS {
				i := slices.IndexFunc(keys, func(k object) bool { return k["kid"] == thumbprints[v.Key] })
				if i < 0 {
					t.Fatalf("no public key %q", v.Key)
				}
				own := object{}
				override(own, keys[i])
				own["kid"] = v.Header.Kid
				set = append(set, own)
			}
			srv := smartauthtest.NewUnstarted(&smartauthtest.Options{
				Audience: v.Claims.Aud,
				Clock:    func() time.Time { return time.Unix(v.Claims.IAT+10, 0) },
			})
			defer srv.Close()
			srv.AddClient(smartauthtest.Client{ID: v.Claims.Iss, JWKS: jwks(set...), JWKSURL: v.Header.JKU})
			r := post(t, srv, srv.TokenURL, assertionForm(v.JWT), nil)
			if !v.Valid {
				reason := "signature"
				if v.Name == "rs384-neg-payload-changed" {
					reason = "sub is not equal to iss"
				}
				wantError(t, srv, r, http.StatusUnauthorized, "invalid_client", reason)
				return
			}
			wantToken(t, r)
			wantError(t, srv, post(t, srv, srv.TokenURL, assertionForm(v.JWT), nil),
				http.StatusUnauthorized, "invalid_client", "jti was used before")
		})
	}
}

func TestBasicVectors(t *testing.T) {
	for _, v := range readJSON[[]struct {
		Name         string `json:"name"`
		ID           string `json:"client_id"`
		Secret       string `json:"client_secret"`
		RFC6749      string `json:"rfc6749"`
		AlsoAccepted []struct {
			Value string `json:"value"`
		} `json:"also_accepted"`
		Raw       string `json:"raw"`
		Equal     bool   `json:"raw_equals_rfc6749"`
		Ambiguous bool   `json:"raw_ambiguous"`
	}](t, "basic.json") {
		t.Run(v.Name, func(t *testing.T) {
			srv := smartauthtest.NewUnstarted(nil)
			defer srv.Close()
			send := func(header string) *response {
				return post(t, srv, srv.TokenURL, system(), func(r *http.Request) { r.Header.Set("Authorization", header) })
			}
			srv.AddClient(smartauthtest.Client{ID: v.ID, Secrets: []string{v.Secret}})
			encoded := []string{v.RFC6749}
			for _, also := range v.AlsoAccepted {
				encoded = append(encoded, also.Value)
			}
			for _, header := range encoded {
				wantToken(t, send(header))
			}
			if !slices.Contains(encoded, v.Raw) {
				wantError(t, srv, send(v.Raw), http.StatusUnauthorized, "invalid_client", "")
			}
			srv.AddClient(smartauthtest.Client{ID: v.ID, Secrets: []string{v.Secret}, BasicEncoding: smartauthtest.Raw})
			if v.Ambiguous {
				wantError(t, srv, send(v.Raw), http.StatusUnauthorized, "invalid_client", "")
				return
			}
			wantToken(t, send(v.Raw))
			if !v.Equal {
				wantError(t, srv, send(v.RFC6749), http.StatusUnauthorized, "invalid_client", "")
			}
		})
	}
}

func TestPKCEVectors(t *testing.T) {
	vectors := readJSON[struct {
		Valid []struct {
			Name      string `json:"name"`
			Verifier  string `json:"code_verifier"`
			Challenge string `json:"code_challenge"`
		} `json:"valid"`
		Invalid []struct {
			Name     string          `json:"name"`
			Verifier json.RawMessage `json:"code_verifier"`
		} `json:"invalid"`
	}](t, "pkce.json")
	srv := newLaunchServer(t, nil)
	exchange := func(t *testing.T, challenge, verifier string) *response {
		code := authorize(t, srv, "code_challenge", challenge).Get("code")
		if code == "" {
			t.Fatal("no code")
		}
		return post(t, srv, srv.TokenURL, url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"public"}, "redirect_uri": {redirectURI},
			"code": {code}, "code_verifier": {verifier},
		}, nil)
	}
	for _, v := range vectors.Valid {
		t.Run(v.Name, func(t *testing.T) { wantToken(t, exchange(t, v.Challenge, v.Verifier)) })
	}
	for _, v := range vectors.Invalid {
		t.Run(v.Name, func(t *testing.T) {
			var verifier string
			if err := json.Unmarshal(v.Verifier, &verifier); err != nil {
				t.Fatal(err)
			}
			wantError(t, srv, exchange(t, s256(verifier), verifier), http.StatusBadRequest, "invalid_request", "code_verifier")
		})
	}
}
