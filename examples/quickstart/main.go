// Quickstart logs in to a SMART on FHIR server and reads a patient, twice: with
// a key that signs a JWT, and with a client secret. It brings its own server,
// on loopback, and tells what happens at each step.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	folder, err := os.MkdirTemp("", "smartcred-quickstart-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	server, err := smartauthtest.Start(nil)
	if err != nil {
		return err
	}
	defer server.Close()
	t := teller{out}
	t.say("A SMART on FHIR server for tests now listens at\n  %s\nIt is strict: what SMART forbids, it refuses.", server.URL)

	t.title("Part 1: a signed JWT (private_key_jwt, ES384)")
	if err := withKey(ctx, t, server, folder); err != nil {
		return err
	}
	t.title("Part 2: a client secret (client_secret_basic)")
	if err := withSecret(ctx, t, server, folder); err != nil {
		return err
	}
	t.title("Now with your own server")
	t.say(`Make a key, and register what is printed at your EHR:
  go run ./cmd/smartcred keygen --alg ES384 --out key.pem
See what the server offers:
  go run ./cmd/smartcred discover --base-url https://fhir.example.com/r4
See what would be sent, then get a token:
  go run ./cmd/smartcred assertion --base-url https://fhir.example.com/r4 --client-id my-app --signer file:key.pem
  go run ./cmd/smartcred token --base-url https://fhir.example.com/r4 --client-id my-app --signer file:key.pem --scopes system/*.rs --verbose
In Go, this program's withKey is all there is to it.`)
	return nil
}

func withKey(ctx context.Context, t teller, server *smartauthtest.Server, folder string) error {
	path := filepath.Join(folder, "key.pem")
	if err := makeKey(path); err != nil {
		return err
	}
	t.step("A private key was made, in a file that only you can read. Its public half is what an EHR registers:")
	file, err := signer.File(path, nil)
	if err != nil {
		return err
	}
	keys, err := signer.NewKeySet(file, &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		return err
	}
	defer keys.Close()
	published, err := keys.Published(ctx)
	if err != nil {
		return err
	}
	set, err := signer.PublicJWKSet(published)
	if err != nil {
		return err
	}
	t.show(set)
	server.AddClient(smartauthtest.Client{ID: "lab-import", JWKS: set, Scopes: []string{"system/*.rs"}})

	jwt, err := provider.NewPrivateKeyJWT(keys, nil)
	if err != nil {
		return err
	}
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL:  server.URL,
		ClientID: "lab-import",
		Scopes:   []string{"system/Patient.rs"},
		Provider: jwt,

		AllowInsecureLoopback: true, // the server here speaks http; a real one never does
	})
	if err != nil {
		return err
	}
	defer client.Close()

	configuration, err := client.Discover(ctx)
	if err != nil {
		return err
	}
	t.step("Discovery: the FHIR base URL says where tokens come from, and how to ask for them.")
	t.show(map[string]any{
		"token_endpoint":                                   configuration.TokenEndpoint,
		"token_endpoint_auth_methods_supported":            configuration.TokenEndpointAuthMethods,
		"token_endpoint_auth_signing_alg_values_supported": configuration.TokenEndpointAuthSigningAlgorithms,
	})

	assertion, key, err := jwt.Assertion(ctx, provider.Request{ClientID: "lab-import", Server: server.URL, URL: configuration.TokenEndpoint})
	if err != nil {
		return err
	}
	header, claims, err := assertion.Preview(key)
	if err != nil {
		return err
	}
	t.step("The client proves who it is by a JWT: good for this one URL, for minutes, and once. Decoded, it says:")
	t.show(map[string]any{"header": header, "claims": claims})
	return login(ctx, t, client, server)
}

func withSecret(ctx context.Context, t teller, server *smartauthtest.Server, folder string) error {
	path := filepath.Join(folder, "client-secret")
	secret := rand.Text()
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		return err
	}
	server.AddClient(smartauthtest.Client{ID: "night-report", Secrets: []string{secret}, Scopes: []string{"system/*.rs"}})
	t.step("The secret stays in its file, and is looked up when it is needed: the program holds a reference.")
	reference := "file://" + filepath.ToSlash(path)
	t.say("    %s", reference)
	source, err := secretsource.Open(ctx, reference, nil)
	if err != nil {
		return err
	}
	basic, err := provider.NewClientSecretBasic(source, nil)
	if err != nil {
		return err
	}
	defer basic.Close()
	looked, err := source.Lookup(ctx, secretsource.Current)
	if err != nil {
		return err
	}
	t.say("Whoever prints it sees: %v (version %s)", looked, looked.Version)

	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: server.URL, ClientID: "night-report", Scopes: []string{"system/Patient.rs"}, Provider: basic,
		AllowInsecureLoopback: true,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	return login(ctx, t, client, server)
}

// login gets a token and reads FHIR with it: the part that both ways share.
func login(ctx context.Context, t teller, client *smartauth.Client, server *smartauthtest.Server) error {
	token, err := client.Token(ctx)
	if err != nil {
		return err
	}
	t.step("The server took it. The token prints as %v; of it may be told:", token)
	life, _ := token.ExpiresIn()
	t.show(map[string]any{"token_type": token.Type, "scope": strings.Join(token.Scopes, " "), "expires_in": life.Seconds()})

	resp, err := client.HTTPClient().Get(server.URL + "/Patient/pat-1")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var patient struct {
		ResourceType, ID, BirthDate string
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&patient); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("FHIR read: HTTP %d", resp.StatusCode)
	}
	t.step("client.HTTPClient() adds the token to requests for the FHIR base, renews it ahead of %s, and reads a %s:",
		token.Expiry.Format(time.TimeOnly), patient.ResourceType)
	t.say("    GET %s/Patient/pat-1  HTTP %d  %s/%s", server.URL, resp.StatusCode, patient.ResourceType, patient.ID)
	return nil
}

// makeKey writes a new P-384 key as PKCS#8, as `smartcred keygen` does.
func makeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// A teller writes the story.
type teller struct{ out io.Writer }

func (t teller) title(s string) { fmt.Fprintf(t.out, "\n%s\n%s\n", s, strings.Repeat("=", len(s))) }

func (t teller) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

func (t teller) step(format string, args ...any) { fmt.Fprintf(t.out, "\n* "+format+"\n", args...) }

func (t teller) show(v any) {
	text, err := json.MarshalIndent(v, "    ", "  ")
	if err != nil {
		text = []byte(err.Error())
	}
	fmt.Fprintf(t.out, "    %s\n", text)
}
