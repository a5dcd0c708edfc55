package smartauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestParseIDKeys(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := func(key jose.JSONWebKey) string {
		out, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	rsaOf := func(bits int) string {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits)-1) // of that size; that it is no real modulus does not matter
		return text(jose.JSONWebKey{Key: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}, KeyID: "k"})
	}
	good := text(jose.JSONWebKey{Key: ec.Public(), KeyID: "k", Use: "sig"})
	for _, test := range []struct {
		name, body string
		want       int // keys; -1: an error
	}{
		{"one", `{"keys":[` + good + `]}`, 1},
		{"no use", `{"keys":[` + text(jose.JSONWebKey{Key: ec.Public()}) + `]}`, 1},
		{"for encryption", `{"keys":[` + text(jose.JSONWebKey{Key: ec.Public(), Use: "enc"}) + `]}`, 0},
		{"a private one", `{"keys":[` + text(jose.JSONWebKey{Key: ec}) + `]}`, 0},
		{"RSA of 2048", `{"keys":[` + rsaOf(2048) + `]}`, 1},
		{"RSA of 1024", `{"keys":[` + rsaOf(1024) + `]}`, 0},
		{"unusable ones beside", `{"keys":[7,{},{"kty":"oct","k":"AA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},` + good + `]}`, 1},
		{"too many", `{"keys":[` + strings.Repeat(good+",", 2*maxIDKeys) + good + `]}`, maxIDKeys},
		{"none", `{"keys":[]}`, 0},
		{"no keys", `{}`, -1},
		{"keys of a wrong type", `{"keys":{}}`, -1},
		{"array", `[` + good + `]`, -1},
		{"HTML", `<html>`, -1},
		{"empty", ``, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := parseIDKeys([]byte(test.body))
			if (err != nil) != (test.want < 0) || err == nil && len(keys) != test.want {
				t.Errorf("got %d keys, %v; want %d", len(keys), err, test.want)
			}
		})
	}
}

func FuzzParseIDKeys(f *testing.F) {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	key, _ := json.Marshal(jose.JSONWebKey{Key: ec.Public(), KeyID: "k"})
	f.Add(fmt.Appendf(nil, `{"keys":[%s]}`, key))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseIDKeys(body)
		if err != nil && keys != nil || len(keys) > maxIDKeys {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for _, key := range keys {
			if !key.IsPublic() || !key.Valid() {
				t.Errorf("a key that is not a valid public one: %T", key.Key)
			}
		}
	})
}

func FuzzParseIntrospection(f *testing.F) {
	f.Add([]byte(`{"active":true,"scope":"patient/*.rs launch","client_id":"x","exp":1767225600,"iat":1767225600.5,"fhirUser":"Patient/1","patient":"p"}`))
	f.Add([]byte(`{"active":false}`))
	f.Add([]byte(`{"active":true,"exp":1e999,"fhirContext":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseIntrospection(body, "https://ehr.example.test/r4")
		if (got == nil) == (err == nil) {
			t.Fatalf("got %v, %v", got, err)
		}
		if err == nil && !got.Active && (got.ClientID != "" || got.Scopes != nil || !got.Expiry.IsZero()) {
			t.Errorf("an inactive token has %+v", got)
		}
		if err == nil && got.FHIRUser != "" && !strings.HasPrefix(got.FHIRUser, "https://ehr.example.test/r4/") {
			t.Errorf("fhirUser %q is not on the FHIR base", got.FHIRUser)
		}
	})
}

func FuzzMergeAnswers(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","refresh_token":"r","patient":"p","scope":"x"}`), []byte(`{"access_token":"b","token_type":"Bearer"}`))
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","x":1,"x":2,"é\"":null}`), []byte(`{"access_token":"b","token_type":"Bearer","refresh_token":"","scope":null,"x":null}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		old, err := ParseToken(first, nil, time.Unix(1767225600, 0))
		if err != nil {
			return
		}
		fresh, err := ParseToken(second, old.Scopes, time.Unix(1767225600, 0))
		if err != nil {
			return
		}
		merged, err := mergeAnswers(old, fresh)
		if err != nil {
			t.Fatalf("%v", err)
		}
		want := fresh.RefreshToken()
		if want == "" {
			want = old.RefreshToken()
		}
		if merged.AccessToken() != fresh.AccessToken() || merged.RefreshToken() != want || !merged.Expiry.Equal(fresh.Expiry) {
			t.Error("the tokens or the expiry are wrong")
		}
		for _, name := range []string{"patient", "x"} {
			now, there := fresh.Member(name)
			was, before := old.Member(name)
			got, kept := merged.Member(name)
			switch {
			case there && string(now) != "null" && string(got) != string(now), (!there || string(now) == "null") && before && string(got) != string(was):
				t.Errorf("%s: %s, before %s, now %s", name, got, was, now)
			case kept != (there || before):
				t.Errorf("%s: kept %t", name, kept)
			}
		}
	})
}
