package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

const testPassphrase = "correct horse"

func readJSON[T any](t testing.TB, name string) T {
	t.Helper()
	var v T
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func keyData(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "keys", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// testKey returns the private key of testdata/keys/NAME.pem.
func testKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	keys, _, err := parseKeyFile(t.Context(), keyData(t, name+".pem"), anyAlgorithm(name), noPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	return keys[0].private()
}

func anyAlgorithm(name string) Algorithm {
	if name == "p256" {
		return ES256
	}
	return ""
}

func noPassphrase(context.Context) ([][]byte, error) { return nil, nil }

func withPassphrase(passphrases ...string) passphrases {
	return func(context.Context) ([][]byte, error) {
		var all [][]byte
		for _, p := range passphrases {
			all = append(all, []byte(p))
		}
		return all, nil
	}
}

func testSigner(t testing.TB, name string, opts *CryptoSignerOptions) (*CryptoSigner, Key) {
	t.Helper()
	s, err := FromCryptoSigner(testKey(t, name), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s, s.key
}

type assertionVector struct {
	Name          string
	Alg           Algorithm
	Key           string
	Valid         bool
	Deterministic bool
	Header        map[string]any
	Claims        map[string]any
	SigningInput  string `json:"signing_input"`
	JWT           string
	Reason        string
}

func TestAssertionVectors(t *testing.T) {
	for _, v := range readJSON[[]assertionVector](t, "assertions.json") {
		t.Run(v.Name, func(t *testing.T) {
			s, key := testSigner(t, v.Key, nil)
			if key.Algorithm != v.Alg {
				t.Fatalf("the key signs with %s, want %s", key.Algorithm, v.Alg)
			}
			input, encoded := v.JWT[:strings.LastIndex(v.JWT, ".")], v.JWT[strings.LastIndex(v.JWT, ".")+1:]
			sig, err := base64.RawURLEncoding.DecodeString(encoded)
			if err != nil {
				t.Fatal(err)
			}
			err = Verify(key, []byte(input), sig)
			if !v.Valid {
				if !errors.Is(err, ErrBadSignature) {
					t.Fatalf("Verify = %v, want ErrBadSignature: %s", err, v.Reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}

			ours, err := s.Sign(t.Context(), key, []byte(v.SigningInput))
			if err != nil {
				t.Fatal(err)
			}
			if v.Deterministic && encoded != b64(ours) {
				t.Errorf("the signature differs from the vector's")
			}
			if err := Verify(key, []byte(v.SigningInput), ours); err != nil {
				t.Error(err)
			}
		})
	}
}

// The assertion that Sign builds has the vector's header and claims.
func TestAssertionBuildsVectors(t *testing.T) {
	for _, v := range readJSON[[]assertionVector](t, "assertions.json") {
		if !v.Valid {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			s, key := testSigner(t, v.Key, nil)
			key.ID = v.Header["kid"].(string)
			text := func(name string) string { return v.Claims[name].(string) }
			claims := Claims{
				Issuer: text("iss"), Subject: text("sub"), Audience: text("aud"), ID: text("jti"),
				ExpiresAt: int64(v.Claims["exp"].(float64)), IssuedAt: int64(v.Claims["iat"].(float64)),
			}
			jku, _ := v.Header["jku"].(string)
			header, err := Assertion{JKU: jku}.header(key)
			if err != nil {
				t.Fatal(err)
			}
			token, err := signToken(t.Context(), s, key, header, tokenClaims{Claims: claims})
			if err != nil {
				t.Fatal(err)
			}
			gotHeader, gotClaims := decodeJWT(t, token)
			if diff := cmp.Diff(v.Header, gotHeader); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(v.Claims, gotClaims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
			parser := jwt.NewParser(jwt.WithValidMethods([]string{string(v.Alg)}), jwt.WithoutClaimsValidation())
			if _, err := parser.Parse(token, func(*jwt.Token) (any, error) { return key.Public, nil }); err != nil {
				t.Errorf("golang-jwt refuses it: %v", err)
			}
		})
	}
}

func decodeJWT(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, to := range []*map[string]any{&header, &claims} {
		data, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(data, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func TestDERVectors(t *testing.T) {
	type vector struct {
		Name, Key, Message, DER, Raw, Reason string
		Valid                                bool
	}
	for _, v := range readJSON[[]vector](t, "ecdsa_der_raw.json") {
		t.Run(v.Name, func(t *testing.T) {
			der, err := hex.DecodeString(v.DER)
			if err != nil {
				t.Fatal(err)
			}
			_, key := testSigner(t, v.Key, nil)
			raw, err := RawFromDER(key.Algorithm.curve(), der)
			if !v.Valid {
				if err == nil {
					t.Fatalf("accepted: %s", v.Reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(raw); got != v.Raw {
				t.Errorf("raw is %s, want %s", got, v.Raw)
			}
			if err := Verify(key, []byte(v.Message), raw); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestThumbprintVectors(t *testing.T) {
	type vector struct {
		Key        string
		Thumbprint string `json:"thumbprint_sha256"`
		Input      string `json:"thumbprint_input"`
	}
	for _, v := range readJSON[[]vector](t, "thumbprints.json") {
		t.Run(v.Key, func(t *testing.T) {
			pub := testKey(t, v.Key).Public()
			m, err := membersOf(pub)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(v.Input, m.thumbprintInput()); diff != "" {
				t.Errorf("input (-want +got):\n%s", diff)
			}
			if got, err := Thumbprint(pub); err != nil || got != v.Thumbprint {
				t.Errorf("Thumbprint = %s, %v; want %s", got, err, v.Thumbprint)
			}
		})
	}
}

func TestJWKVectors(t *testing.T) {
	want := readJSON[struct{ Keys []map[string]any }](t, "jwks.json").Keys
	names := []string{"rsa2048", "rsa3072", "rsa4096", "p384", "p384_x0", "p384_y0", "p384_d0"}
	if len(want) != len(names) {
		t.Fatalf("%d keys in the vector, want %d", len(want), len(names))
	}
	byKid := map[string]map[string]any{}
	for _, w := range want {
		delete(w, "key_ops") // kty kid use alg is what servers need
		byKid[w["kid"].(string)] = w
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			_, key := testSigner(t, name, nil)
			set, err := PublicJWKSet([]Key{key})
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Keys []map[string]any }
			if err := json.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]map[string]any{byKid[key.ID]}, got.Keys); diff != "" {
				t.Errorf("JWK (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPublicJWKRefuses(t *testing.T) {
	_, good := testSigner(t, "p384", nil)
	for name, change := range map[string]func(*Key){
		"no kid":          func(k *Key) { k.ID = "" },
		"no algorithm":    func(k *Key) { k.Algorithm = "" },
		"other algorithm": func(k *Key) { k.Algorithm = RS384 },
		"no key":          func(k *Key) { k.Public = nil },
		"a private key":   func(k *Key) { k.Public = testKey(t, "p384") },
	} {
		t.Run(name, func(t *testing.T) {
			key := good
			change(&key)
			if _, err := PublicJWKSet([]Key{key}); !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
				t.Errorf("error %v, want ErrUnsupportedAlgorithm", err)
			}
		})
	}
}

func generate() (crypto.Signer, crypto.PublicKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return key, key.Public(), nil
}
