package provider_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func testSigner(t testing.TB) signer.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signer.FromCryptoSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNew(t *testing.T) {
	secret, key := secretsource.Static([]byte("x")), testSigner(t)
	tests := map[string]struct {
		cfg  provider.Config
		want provider.Method // empty: an error that names option
		opt  string
	}{
		"signer wins over secret":   {provider.Config{Signer: key, Secret: secret}, provider.MethodPrivateKeyJWT, ""},
		"signer":                    {provider.Config{Signer: key}, provider.MethodPrivateKeyJWT, ""},
		"secret":                    {provider.Config{Secret: secret}, provider.MethodClientSecretBasic, ""},
		"neither":                   {provider.Config{}, "", "auth_method"},
		"none":                      {provider.Config{Method: provider.MethodNone}, provider.MethodNone, ""},
		"post":                      {provider.Config{Method: provider.MethodClientSecretPost, Secret: secret}, provider.MethodClientSecretPost, ""},
		"secret although a signer":  {provider.Config{Method: provider.MethodClientSecretBasic, Signer: key, Secret: secret}, provider.MethodClientSecretBasic, ""},
		"basic without a secret":    {provider.Config{Method: provider.MethodClientSecretBasic, Signer: key}, "", "secret"},
		"jwt without a signer":      {provider.Config{Method: provider.MethodPrivateKeyJWT, Secret: secret}, "", "signer"},
		"unknown method":            {provider.Config{Method: "tls_client_auth", Secret: secret}, "", "auth_method"},
		"unknown encoding":          {provider.Config{Secret: secret, SecretOptions: &provider.SecretOptions{Encoding: "utf8"}}, "", "secret_encoding"},
		"lifetime over 5 minutes":   {provider.Config{Signer: key, JWTOptions: &provider.PrivateKeyJWTOptions{Lifetime: 301e9}}, "", "assertion_lifetime"},
		"reserved header member":    {provider.Config{Signer: key, JWTOptions: &provider.PrivateKeyJWTOptions{Header: map[string]any{"alg": "none"}}}, "", "header"},
		"jku without TLS":           {provider.Config{Signer: key, JWTOptions: &provider.PrivateKeyJWTOptions{JKU: "http://app.example.test/jwks"}}, "", "jwks_url"},
		"audience scheme not http*": {provider.Config{Signer: key, JWTOptions: &provider.PrivateKeyJWTOptions{AudienceScheme: "ftp"}}, "", "audience_scheme"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := provider.New(test.cfg)
			if test.want == "" {
				var bad *smartcred.ConfigError
				if !errors.As(err, &bad) || bad.Option != test.opt {
					t.Fatalf("err = %v, want a ConfigError of %s", err, test.opt)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got provider.Method
			err = p.Authenticate(t.Context(), provider.Request{ClientID: "app", URL: "https://ehr.example.test/token"}, func(_ context.Context, c provider.Credential) error {
				got = c.Method
				return nil
			})
			if err != nil || got != test.want {
				t.Errorf("method %s (%v), want %s", got, err, test.want)
			}
		})
	}
}
