package smartauth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A backend service with a key: it reads patients, and never sees a token. The
// key is made here; signer.Open opens one by its URI.
func Example() {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := signer.FromCryptoSigner(private, &signer.CryptoSignerOptions{KeyID: "key-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	ehr := smartauthtest.NewUnstarted(nil)
	defer ehr.Close()
	if err := register(ehr, key); err != nil {
		fmt.Println(err)
		return
	}

	proof, err := provider.NewPrivateKeyJWT(key, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer proof.Close()
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL:    ehr.URL,
		ClientID:   "my-service",
		Scopes:     []string{smartauth.ScopeSystemRead},
		Provider:   proof,
		HTTPClient: ehr.Client(),
		Observer:   smartcred.Discard, // nil: slog's default logger
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	resp, err := client.HTTPClient().Get(ehr.URL + "/Patient/pat-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.StatusCode, ehr.RequestsTo(smartauthtest.EndpointToken)[0].AuthMethod)
	// Output: 200 private_key_jwt
}

// register gives the server the public half of key.
func register(ehr *smartauthtest.Server, key signer.Signer) error {
	keys, err := key.Keys(context.Background())
	if err != nil {
		return err
	}
	set, err := signer.PublicJWKSet(keys)
	if err != nil {
		return err
	}
	ehr.AddClient(smartauthtest.Client{ID: "my-service", JWKS: set, Scopes: []string{"system/*.rs"}})
	return nil
}

// webClient is a web app's client and the server that it logs in to.
func webClient() (*smartauthtest.Server, *smartauth.Client, error) {
	const callback = "https://app.example.org/callback"
	ehr := smartauthtest.NewUnstarted(nil)
	ehr.AddClient(smartauthtest.Client{ID: "my-app", Secrets: []string{"s3cret"}, RedirectURIs: []string{callback}})
	secret, err := provider.NewClientSecretBasic(secretsource.Static([]byte("s3cret")), nil)
	if err != nil {
		return nil, nil, err
	}
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: ehr.URL, ClientID: "my-app", RedirectURL: callback, HTTPClient: ehr.Client(), Observer: smartcred.Discard,
		Scopes:   []string{"openid", "fhirUser", "launch/patient", "offline_access", "patient/*.rs"},
		Provider: secret,
	})
	return ehr, client, err
}

// A launch and its callback in short; see [smartauth.Client.Exchange] for a web
// app's handlers.
func ExampleClient_StartLaunch() {
	ctx := context.Background()
	ehr, client, err := webClient()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ehr.Close()
	defer client.Close()

	launch, err := client.StartLaunch(ctx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	callback, err := ehr.Authorize(ctx, launch.URL()) // the browser goes there, and the user agrees
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := client.Exchange(ctx, launch, callback.Query())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.Identity().FHIRUser)
	fmt.Println(token.Context.Patient)
	fmt.Println(token)
	// Output:
	// https://ehr.example.test/fhir/r4/Practitioner/prac-1
	// pat-1
	// Bearer [redacted]
}

// A user's session that outlives the process: every token is stored before it is
// used, and read back after a restart.
func ExampleClient_SessionSource() {
	ctx := context.Background()
	ehr, client, err := webClient()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ehr.Close()
	defer client.Close()
	token, err := logIn(ctx, ehr, client)
	if err != nil {
		fmt.Println(err)
		return
	}

	var mu sync.Mutex
	database := token.Save() // a real one is encrypted
	store := func(_ context.Context, token *smartauth.Token) error {
		mu.Lock()
		defer mu.Unlock()
		database = token.Save()
		return nil
	}

	// After the restart.
	restored, err := smartauth.RestoreToken(database)
	if err != nil {
		fmt.Println(err)
		return
	}
	session := client.SessionSource(restored, &smartauth.SessionOptions{Store: store})
	session.Drop(restored) // as if it had been used up
	renewed, err := session.Token(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	kept, err := smartauth.RestoreToken(database)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(renewed.AccessToken() != token.AccessToken(), kept.RefreshToken() == renewed.RefreshToken())
	fmt.Println(kept.Identity().Subject, kept.Context.Patient)

	// Requests for this user.
	fhir := &http.Client{Transport: client.Transport(session), Timeout: time.Minute}
	resp, err := fhir.Get(ehr.URL + "/Patient/pat-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	// Output:
	// true true
	// user-1 pat-1
	// 200
}

func logIn(ctx context.Context, ehr *smartauthtest.Server, client *smartauth.Client) (*smartauth.Token, error) {
	launch, err := client.StartLaunch(ctx, nil)
	if err != nil {
		return nil, err
	}
	callback, err := ehr.Authorize(ctx, launch.URL())
	if err != nil {
		return nil, err
	}
	return client.Exchange(ctx, launch, callback.Query())
}

// A library that wants an oauth2.TokenSource gets one.
func ExampleTokenSource_OAuth2() {
	ehr := smartauthtest.NewUnstarted(nil)
	defer ehr.Close()
	ehr.AddClient(smartauthtest.Client{ID: "my-service", Secrets: []string{"s3cret"}, Scopes: []string{"system/*.rs"}})
	secret, err := provider.NewClientSecretBasic(secretsource.Static([]byte("s3cret")), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: ehr.URL, ClientID: "my-service", Scopes: []string{smartauth.ScopeSystemRead},
		Provider: secret, HTTPClient: ehr.Client(), Observer: smartcred.Discard,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	source, err := client.TokenSource(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var forOthers oauth2.TokenSource = source.OAuth2(context.Background())
	token, err := forOthers.Token()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.Type(), token.Valid(), token.Extra("scope"))
	// Output: Bearer true system/*.rs
}

// What a server can do, and what it does not do as it should.
func ExampleClient_Discover() {
	ehr := smartauthtest.NewUnstarted(nil)
	defer ehr.Close()
	ehr.SetConfigurationMember("code_challenge_methods_supported", []string{"S256", "plain"})
	ehr.SetConfigurationMember("grant_types_supported", nil)
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: ehr.URL, ClientID: "my-app", Provider: provider.Public{}, HTTPClient: ehr.Client(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	server, err := client.Discover(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(server.SupportsEHRLaunch(), server.SupportsOpenIDConnect(), server.UsableForAppLaunch())
	for _, violation := range server.Violations() {
		fmt.Println(violation)
	}
	// Output:
	// true true true
	// grant_types_supported: missing_required (SHALL)
	// code_challenge_methods_supported: forbidden_value (SHALL NOT): plain
}

// A hook that has a token of its own, from a gateway for example, spares the
// token request.
func ExampleNewToken() {
	ehr := smartauthtest.NewUnstarted(nil)
	defer ehr.Close()
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: ehr.URL, ClientID: "my-service", Scopes: []string{smartauth.ScopeSystemRead},
		Provider: provider.Public{}, HTTPClient: ehr.Client(),
		PreTokenRequest: func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error) {
			return smartauth.NewToken("from-the-gateway", time.Now().Add(10*time.Minute))
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	token, err := client.Token(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(token.AccessToken(), ehr.TokenRequests())
	// Output: from-the-gateway 0
}
