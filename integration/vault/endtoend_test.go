package vault

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/plugins/vaulttransit"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

var algorithms = []struct {
	name    signer.Algorithm
	keyType string
}{
	{signer.ES384, "ecdsa-p384"},
	{signer.RS384, "rsa-2048"},
}

// strictUserScopes are what a user's app asks the strict server for.
var strictUserScopes = []string{"openid", "fhirUser", "launch/patient", "patient/Patient.rs", "offline_access"}

// Keys that are made in Vault and never leave it, at both servers, for a backend
// service and after a browser launch.
func TestTransitEndToEnd(t *testing.T) {
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	for _, alg := range algorithms {
		t.Run(string(alg.name), func(t *testing.T) {
			mount := transitKey(t, s, alg.keyType)
			token := s.Token(t, policy(transitPolicy, mount))
			keys := openSigner(t, "vault-transit://"+mount+"/smart"+query(map[string]string{"token_file": tokenFile(t, token)}), nil)
			neverOutside(t, s, mount, keys)
			p := keyProvider(t, keys, signer.KeySetOptions{RequireNonExportable: true})
			t.Run("strict server", func(t *testing.T) {
				srv := smartauthtest.NewServer(t, nil)
				srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: published(t, p), RedirectURIs: []string{redirectURL}})
				atStrictServer(t, srv, p)
				for _, r := range srv.RequestsTo(smartauthtest.EndpointToken) {
					if r.AuthMethod != smartauthtest.AuthPrivateKeyJWT || r.AssertionHeader["alg"] != string(alg.name) {
						t.Errorf("token request by %s with alg %v", r.AuthMethod, r.AssertionHeader["alg"])
					}
				}
			})
			t.Run("fosite", func(t *testing.T) {
				srv := fositetest.NewServer(t, true)
				registered := fositetest.Registration(clientID, provider.MethodPrivateKeyJWT)
				registered.TokenEndpointAuthSigningAlgorithm = string(alg.name)
				registered.JSONWebKeys = new(jose.JSONWebKeySet)
				if err := json.Unmarshal(published(t, p), registered.JSONWebKeys); err != nil {
					t.Fatal(err)
				}
				srv.Register(registered)
				atFosite(t, srv, p)
			})
		})
	}
}

// The user's own client, with its own login.
func TestTransitEndToEndWithClient(t *testing.T) {
	s := vaulttest.Shared(t)
	mount := transitKey(t, s, "ecdsa-p384")
	keys, err := vaulttransit.New(s.Client(t, s.Token(t, policy(transitPolicy, mount))), "smart", &vaulttransit.Options{Mount: mount})
	if err != nil {
		t.Fatal(err)
	}
	p := keyProvider(t, keys, signer.KeySetOptions{})
	srv := smartauthtest.NewServer(t, nil)
	srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: published(t, p), RedirectURIs: []string{redirectURL}})
	atStrictServer(t, srv, p)
}

func TestKVEndToEnd(t *testing.T) {
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	// Every kind of character that HTTP Basic and forms treat in their own ways.
	const secret = `p:+ %41&=/?#"\~*-_.é世`
	for name, version := range map[string]int{"version 1": 1, "version 2": 2} {
		t.Run(name, func(t *testing.T) {
			mount, uri := kvSecret(t, s, version, nil)
			putSecret(t, s, mount, version, secret)
			p := secretProvider(t, openSource(t, uri), 0)
			t.Run("strict server", func(t *testing.T) {
				srv := smartauthtest.NewServer(t, nil)
				srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{secret}, RedirectURIs: []string{redirectURL}})
				atStrictServer(t, srv, p)
			})
			t.Run("fosite", func(t *testing.T) {
				srv := fositetest.NewServer(t, true)
				registered := fositetest.Registration(clientID, provider.MethodClientSecretBasic)
				var err error
				if registered.Secret, err = bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost); err != nil {
					t.Fatal(err)
				}
				srv.Register(registered)
				atFosite(t, srv, p)
			})
		})
	}
}

// kvSecret makes a KV mount and returns it with the URI of a source that may read
// team/smart and nothing else.
func kvSecret(t *testing.T, s *vaulttest.Server, version int, options map[string]string) (mount, uri string) {
	t.Helper()
	mount = s.KV(t, version)
	hcl := policy(kvPolicy, mount)
	if version == 1 {
		hcl = policy(kv1Policy, mount)
	}
	all := map[string]string{"token_file": tokenFile(t, s.Token(t, hcl))}
	for name, value := range options {
		all[name] = value
	}
	return mount, "vault-kv://" + mount + "/team/smart" + query(all) + "#client_secret"
}

func putSecret(t *testing.T, s *vaulttest.Server, mount string, version int, value string) {
	t.Helper()
	fields := map[string]any{"client_secret": value, "client_id": clientID}
	if version == 1 {
		s.Write(t, mount+"/team/smart", fields)
		return
	}
	s.Write(t, mount+"/data/team/smart", map[string]any{"data": fields})
}

// neverOutside checks that Vault keeps the key, and that smartcred says so.
func neverOutside(t *testing.T, s *vaulttest.Server, mount string, keys signer.Signer) {
	t.Helper()
	list, err := keys.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range list {
		if key.Custody.Level != signer.CustodyGenerated || !key.Custody.NonExportable() {
			t.Errorf("custody of version %s: %s (%s), want generated inside", key.Version, key.Custody.Level, key.Custody.Evidence)
		}
		for _, words := range []string{"exportable=false", "allow_plaintext_backup=false", "imported_key=false"} {
			if !strings.Contains(key.Custody.Evidence, words) {
				t.Errorf("the evidence %q lacks %s", key.Custody.Evidence, words)
			}
		}
	}
	for _, path := range []string{mount + "/export/signing-key/smart", mount + "/backup/smart"} {
		if found, err := s.Root(t).Logical().ReadWithContext(t.Context(), path); err == nil {
			t.Errorf("Vault lets the key out at %s: %v", path, found)
		}
	}
}

// atStrictServer logs in as a backend service and through a browser.
func atStrictServer(t *testing.T, srv *smartauthtest.Server, p provider.Provider) {
	t.Helper()
	if err := callOnce(t.Context(), newClient(t, srv, p), srv, "backend service"); err != nil {
		t.Errorf("backend service: %v", err)
	}
	client := newClient(t, srv, p, strictUserScopes...)
	launch, err := client.StartLaunch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := srv.Authorize(t.Context(), launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.Exchange(t.Context(), launch, back.Query())
	if err != nil {
		t.Fatal(err)
	}
	if token, err = client.Refresh(t.Context(), token, nil); err != nil {
		t.Fatal(err)
	}
	if token.Context.Patient != "pat-1" || token.Identity() == nil {
		t.Errorf("patient %q, identity %v", token.Context.Patient, token.Identity())
	}
	for _, r := range srv.RequestsTo(smartauthtest.EndpointToken) {
		if r.Status != http.StatusOK {
			t.Errorf("a token request was answered %d %s: %s", r.Status, r.Error, r.Reason)
		}
	}
}

// atFosite does the same at a server that nobody here wrote.
func atFosite(t *testing.T, srv *fositetest.Server, p provider.Provider) {
	t.Helper()
	open := func(scopes []string) *smartauth.Client {
		client, err := smartauth.NewClient(smartauth.Config{
			BaseURL: srv.FHIRBase(), ClientID: clientID, Provider: p, Scopes: scopes, RedirectURL: fositetest.RedirectURL,
			HTTPClient: srv.Client(), Observer: smartcred.Discard,
		})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, client)
		return client
	}
	token, err := open(fositetest.SystemScopes).Token(t.Context())
	if err != nil {
		t.Errorf("backend service: %v", err)
	} else if in, _ := token.ExpiresIn(); in > 5*time.Minute {
		t.Errorf("expires in %s", in)
	}
	client := open(fositetest.UserScopes)
	token, err = client.Refresh(t.Context(), fositetest.LogIn(t, srv, client, fositetest.Get), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token.Context.Patient != fositetest.PatientID || token.Identity() == nil {
		t.Errorf("patient %q, identity %v", token.Context.Patient, token.Identity())
	}
	for _, r := range srv.TokenRequests() {
		if r.Status != http.StatusOK {
			t.Errorf("a token request was answered %d", r.Status)
		}
	}
}
