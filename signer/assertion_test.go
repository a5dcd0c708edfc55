package signer

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

func at(unix int64) func() time.Time { return func() time.Time { return time.Unix(unix, 999_000_000) } }

func TestAssertionTimes(t *testing.T) {
	const now = 1_767_225_600
	_, key := testSigner(t, "p384", nil)
	for name, tt := range map[string]struct {
		lifetime time.Duration
		exp, iat int64 // from now
	}{
		"default":            {0, 240, -10},
		"negative":           {-time.Hour, 240, -10},
		"a minute":           {time.Minute, 60, -10},
		"a fraction is cut":  {90*time.Second + 999*time.Millisecond, 90, -10},
		"as long as can be":  {5 * time.Minute, 300, 0},
		"iat less backdated": {4*time.Minute + 55*time.Second, 295, -5},
		"iat just fits":      {4*time.Minute + 50*time.Second, 290, -10},
	} {
		t.Run(name, func(t *testing.T) {
			a := Assertion{ClientID: "app", Audience: "https://as.example.com/token", Lifetime: tt.lifetime, Now: at(now)}
			_, claims, err := a.Preview(key)
			if err != nil {
				t.Fatal(err)
			}
			want := Claims{Issuer: "app", Subject: "app", Audience: a.Audience, ExpiresAt: now + tt.exp, IssuedAt: now + tt.iat, ID: claims.ID}
			if diff := cmp.Diff(want, claims); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAssertionRefuses(t *testing.T) {
	_, key := testSigner(t, "p384", nil)
	for name, change := range map[string]func(*Assertion, *Key){
		"no client":       func(a *Assertion, _ *Key) { a.ClientID = "" },
		"client bytes":    func(a *Assertion, _ *Key) { a.ClientID = "a\xff" },
		"no audience":     func(a *Assertion, _ *Key) { a.Audience = "" },
		"audience bytes":  func(a *Assertion, _ *Key) { a.Audience = "a\xff" },
		"too long":        func(a *Assertion, _ *Key) { a.Lifetime = 5*time.Minute + 1 },
		"too short":       func(a *Assertion, _ *Key) { a.Lifetime = time.Millisecond },
		"alg":             func(a *Assertion, _ *Key) { a.Header = map[string]any{"alg": "none"} },
		"typ":             func(a *Assertion, _ *Key) { a.Header = map[string]any{"typ": "x"} },
		"kid":             func(a *Assertion, _ *Key) { a.Header = map[string]any{"kid": "x"} },
		"jku":             func(a *Assertion, _ *Key) { a.Header = map[string]any{"jku": "https://example.com"} },
		"crit":            func(a *Assertion, _ *Key) { a.Header = map[string]any{"crit": []string{"b64"}} },
		"http jku":        func(a *Assertion, _ *Key) { a.JKU = "http://app.example.com/jwks.json" },
		"relative jku":    func(a *Assertion, _ *Key) { a.JKU = "/jwks.json" },
		"jku with user":   func(a *Assertion, _ *Key) { a.JKU = "https://u:p@app.example.com/jwks.json" },
		"no kid":          func(_ *Assertion, k *Key) { k.ID = "" },
		"other algorithm": func(_ *Assertion, k *Key) { k.Algorithm = RS384 },
	} {
		t.Run(name, func(t *testing.T) {
			a, k := Assertion{ClientID: "app", Audience: "https://as.example.com/token"}, key
			change(&a, &k)
			_, _, err := a.Preview(k)
			if !errors.Is(err, smartcred.ErrInvalidConfig) && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
				t.Errorf("error %v", err)
			}
			if keyIsWrong := k.ID != key.ID || k.Algorithm != key.Algorithm; (a.Check() == nil) != keyIsWrong {
				t.Errorf("Check = %v", a.Check())
			}
			s, _ := testSigner(t, "p384", nil)
			if token, _, signErr := a.Sign(t.Context(), s, k); token != "" || signErr == nil || signErr.Error() != err.Error() {
				t.Errorf("Sign = %q, %v; want %v", token, signErr, err)
			}
		})
	}
}

func TestAssertionSign(t *testing.T) {
	s, key := testSigner(t, "p384", nil)
	extra := map[string]any{"x5c": []any{"MII"}}
	a := Assertion{ClientID: "app", Audience: "https://as.example.com/token", JKU: "https://app.example.com/jwks.json", Header: extra}
	seen := map[string]bool{}
	for range 3 {
		token, jti, err := a.Sign(t.Context(), s, key)
		if err != nil {
			t.Fatal(err)
		}
		header, claims := decodeJWT(t, token)
		want := map[string]any{"alg": "ES384", "typ": "JWT", "kid": key.ID, "jku": a.JKU, "x5c": []any{"MII"}}
		if diff := cmp.Diff(want, header); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		if claims["jti"] != jti || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(jti) {
			t.Errorf("jti %q, claims %v", jti, claims)
		}
		if seen[jti] {
			t.Error("a jti was used twice")
		}
		seen[jti] = true
	}
	if len(extra) != 1 {
		t.Errorf("the caller's header was written to: %v", extra)
	}
}
