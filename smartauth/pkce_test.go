package smartauth_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/smartauth"
)

func TestPKCEVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/pkce.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Valid, Invalid []struct {
			Name      string
			Verifier  string `json:"code_verifier"`
			Challenge string `json:"code_challenge"`
		}
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors.Valid) == 0 || len(vectors.Invalid) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range vectors.Valid {
		t.Run(v.Name, func(t *testing.T) {
			got, err := smartauth.CodeChallenge(v.Verifier)
			if err != nil || got != v.Challenge {
				t.Errorf("CodeChallenge = %q, %v; want %q", got, err, v.Challenge)
			}
		})
	}
	for _, v := range vectors.Invalid {
		t.Run(v.Name, func(t *testing.T) {
			got, err := smartauth.CodeChallenge(v.Verifier)
			if err == nil {
				t.Fatalf("CodeChallenge = %q, want an error", got)
			}
			if v.Verifier != "" && strings.Contains(err.Error(), v.Verifier) {
				t.Errorf("error %q holds the verifier", err)
			}
		})
	}
}

func TestNewCodeVerifier(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		v := smartauth.NewCodeVerifier()
		if _, err := smartauth.CodeChallenge(v); err != nil || seen[v] {
			t.Fatalf("verifier of %d characters: %v, seen before: %t", len(v), err, seen[v])
		}
		seen[v] = true
	}
}
