package signer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// A key of any library that gives a crypto.Signer signs an assertion.
func Example() {
	ctx := context.Background()
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	s, err := signer.FromCryptoSigner(private, &signer.CryptoSignerOptions{KeyID: "my-key"})
	if err != nil {
		panic(err)
	}
	keys, err := signer.NewKeySet(s, &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		panic(err)
	}
	defer keys.Close()

	key, err := keys.Signing(ctx, []string{"RS384", "ES384"})
	if err != nil {
		panic(err)
	}
	assertion := signer.Assertion{ClientID: "my-app", Audience: "https://as.example.com/token"}
	jwt, _, err := assertion.Sign(ctx, keys, key)
	if err != nil {
		panic(err)
	}
	fmt.Println(key.Algorithm, key.ID, strings.Count(jwt, "."))
	// Output: ES384 my-key 2
}

func ExampleKeySet_Handler() {
	ctx := context.Background()
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	s, err := signer.FromCryptoSigner(private, nil)
	if err != nil {
		panic(err)
	}
	keys, err := signer.NewKeySet(s, &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		panic(err)
	}
	defer keys.Close()
	if _, err := keys.Published(ctx); err != nil { // everything wrong shows here
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/.well-known/jwks.json", keys.Handler(ctx))
	server := httptest.NewServer(mux)
	defer server.Close()

	answer, err := http.Get(server.URL + "/.well-known/jwks.json")
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	fmt.Println(answer.StatusCode, answer.Header.Get("Content-Type"), answer.Header.Get("Cache-Control"))
	// Output: 200 application/jwk-set+json public, max-age=900
}

func ExampleAssertion_Preview() {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	s, err := signer.FromCryptoSigner(private, &signer.CryptoSignerOptions{KeyID: "my-key"})
	if err != nil {
		panic(err)
	}
	listed, err := s.Keys(context.Background())
	if err != nil {
		panic(err)
	}
	header, claims, err := signer.Assertion{ClientID: "my-app", Audience: "https://as.example.com/token"}.Preview(listed[0])
	if err != nil {
		panic(err)
	}
	fmt.Println(header["alg"], header["typ"], header["kid"])
	fmt.Println(claims.Issuer, claims.Audience, claims.ExpiresAt-claims.IssuedAt)
	// Output:
	// ES384 JWT my-key
	// my-app https://as.example.com/token 250
}
