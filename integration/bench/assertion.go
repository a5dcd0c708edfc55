package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// assertions compares a whole authentication by private_key_jwt, with a key in a
// file and a send that does nothing, with the signature in it, and with what
// golang-jwt makes of the same claims.
func assertions() ([]result, error) {
	var results []result
	for _, c := range []struct {
		alg    signer.Algorithm
		method jwt.SigningMethod
		bound  float64
	}{
		{signer.RS384, jwt.SigningMethodRS384, 1.05},
		{signer.ES384, jwt.SigningMethodES384, 1.25},
	} {
		key, err := newKey(c.alg)
		if err != nil {
			return nil, err
		}
		times, err := assertionTimes(key, c.method)
		if err != nil {
			return nil, err
		}
		name := string(c.alg)
		results = append(results,
			against(name+" smartcred : bare signing", times[0], times[1], c.bound),
			against(name+" smartcred : golang-jwt SignedString", times[0], times[2], unbounded))
	}
	return results, nil
}

func assertionTimes(key crypto.Signer, method jwt.SigningMethod) ([][]float64, error) {
	dir, err := os.MkdirTemp("", "smartcred-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	keys, err := fileSigner(dir, key)
	if err != nil {
		return nil, err
	}
	p, err := jwtProvider(keys)
	if err != nil {
		return nil, err
	}
	defer p.Close()

	ctx := context.Background()
	request := provider.Request{ClientID: clientID, Server: fhirBase, URL: tokenURL, GrantType: "client_credentials"}
	input, kid, err := signingInput(ctx, p, request)
	if err != nil {
		return nil, err
	}
	return race(400,
		contender{"smartcred", func(n int) {
			for range n {
				must(p.Authenticate(ctx, request, func(context.Context, provider.Credential) error { return nil }))
			}
		}},
		contender{"bare", func(n int) {
			for range n {
				signature, err := bareSignature(key, input)
				must(err)
				runtime.KeepAlive(signature)
			}
		}},
		contender{"golang-jwt", func(n int) {
			for range n {
				assertion, err := signedString(key, method, kid)
				must(err)
				runtime.KeepAlive(assertion)
			}
		}},
	), nil
}

// signingInput returns what p signs, so that the bare signature is over as many bytes.
func signingInput(ctx context.Context, p provider.Provider, request provider.Request) (input []byte, kid string, err error) {
	err = p.Authenticate(ctx, request, func(_ context.Context, credential provider.Credential) error {
		form := url.Values{}
		credential.Apply(http.Header{}, form)
		signed, _, ok := cutLast(form.Get("client_assertion"))
		if !ok {
			return errors.New("the credential has no assertion")
		}
		input, kid = []byte(signed), credential.KeyID
		return nil
	})
	return input, kid, err
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func bareSignature(key crypto.Signer, input []byte) ([]byte, error) {
	digest := sha512.Sum384(input)
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA384, digest[:])
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, key, digest[:])
	default:
		return nil, errors.New("no such key here")
	}
}

// signedString makes the same assertion with golang-jwt alone.
func signedString(key crypto.Signer, method jwt.SigningMethod, kid string) (string, error) {
	var id [16]byte
	_, _ = rand.Read(id[:])
	now := time.Now()
	token := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": clientID, "sub": clientID, "aud": tokenURL,
		"exp": now.Add(4 * time.Minute).Unix(), "iat": now.Unix(), "jti": hex.EncodeToString(id[:]),
	})
	token.Header["kid"] = kid
	return token.SignedString(key)
}
