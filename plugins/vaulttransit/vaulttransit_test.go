package vaulttransit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// publicKeys are as Vault shows them.
var publicKeys = func() []string {
	var out []string
	for range 4 {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			panic(err)
		}
		out = append(out, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	}
	return out
}()

// answerOf builds what Vault says of a key with versions of those ages in days.
func answerOf(keyType string, min int, ages ...int) map[string]any {
	keys := map[string]any{}
	for i, age := range ages {
		keys[fmt.Sprint(i+1)] = map[string]any{"public_key": publicKeys[i], "creation_time": now.AddDate(0, 0, -age).Format(time.RFC3339Nano), "name": "P-384"}
	}
	return map[string]any{
		"type": keyType, "keys": keys, "latest_version": json.Number(fmt.Sprint(len(ages))), "supports_signing": true,
		"min_encryption_version": json.Number(fmt.Sprint(min)), "min_available_version": json.Number("0"), "derived": false,
		"exportable": false, "allow_plaintext_backup": false, "imported_key": false,
	}
}

var now = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

// schedule tells when each version signs.
func schedule(keys []signer.Key) []string {
	var out []string
	for _, k := range keys {
		when := "ready"
		switch {
		case k.NotBefore.Equal(signer.Unscheduled):
			when = "unscheduled"
		case k.NotBefore.After(now):
			when = "in " + k.NotBefore.Sub(now).String()
		}
		out = append(out, k.Version+" "+when)
	}
	return out
}

func TestSchedule(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		opts Options
		min  int
		ages []int
		want []string
	}{
		"one version":              {ages: []int{0}, want: []string{"1 ready"}},
		"one version, by URL":      {opts: Options{PublishFor: day}, ages: []int{0}, want: []string{"1 ready"}},
		"registered by hand":       {ages: []int{9, 5, 0}, want: []string{"3 unscheduled", "2 unscheduled", "1 ready"}},
		"by URL":                   {opts: Options{PublishFor: 36 * time.Hour}, ages: []int{9, 5, 1}, want: []string{"3 in 12h0m0s", "2 ready", "1 ready"}},
		"revoked below 2":          {min: 2, ages: []int{9, 5, 0}, want: []string{"3 unscheduled", "2 ready"}},
		"revoked below 3, by URL":  {opts: Options{PublishFor: day}, min: 3, ages: []int{9, 5, 0}, want: []string{"3 in 24h0m0s"}},
		"named":                    {opts: Options{Version: 2}, ages: []int{9, 5, 0}, want: []string{"3 unscheduled", "2 ready", "1 ready"}},
		"named, by URL":            {opts: Options{Version: 2, PublishFor: day}, ages: []int{9, 5, 0}, want: []string{"3 unscheduled", "2 ready", "1 ready"}},
		"named although just made": {opts: Options{Version: 3, PublishFor: day}, ages: []int{9, 5, 0}, want: []string{"3 ready", "2 ready", "1 ready"}},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := parseKey(answerOf("ecdsa-p384", c.min, c.ages...))
			if err != nil {
				t.Fatal(err)
			}
			keys, err := info.list(c.opts)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, schedule(keys)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	change := func(name string, value any) map[string]any {
		a := answerOf("ecdsa-p384", 0, 1)
		a[name] = value
		return a
	}
	for name, c := range map[string]struct {
		answer map[string]any
		opts   Options
		is     error
		says   string
	}{
		"symmetric":         {answer: change("type", "aes256-gcm96"), is: smartcred.ErrUnsupportedAlgorithm, says: "type=ecdsa-p384"},
		"ed25519":           {answer: change("type", "ed25519"), is: smartcred.ErrUnsupportedAlgorithm},
		"derived":           {answer: change("derived", true), is: smartcred.ErrUnsupportedAlgorithm, says: "derived"},
		"managed":           {answer: change("type", "managed_key"), is: smartcred.ErrUnsupportedAlgorithm},
		"RS384 of EC":       {answer: answerOf("ecdsa-p384", 0, 1), opts: Options{Algorithm: signer.RS384}, is: smartcred.ErrUnsupportedAlgorithm, says: "needs an RSA key"},
		"no such version":   {answer: answerOf("ecdsa-p384", 0, 1), opts: Options{Version: 2}, is: smartcred.ErrNotFound, says: "no version 2"},
		"version revoked":   {answer: answerOf("ecdsa-p384", 2, 2, 1), opts: Options{Version: 1}, is: smartcred.ErrNotFound, says: "min_encryption_version 2"},
		"all revoked":       {answer: answerOf("ecdsa-p384", 3, 2, 1), is: smartcred.ErrNotFound},
		"no type":           {answer: change("type", ""), is: smartcred.ErrUnavailable},
		"no versions":       {answer: change("keys", nil), is: smartcred.ErrUnavailable},
		"symmetric version": {answer: change("keys", map[string]any{"1": json.Number("1700000000")}), is: smartcred.ErrUnavailable},
		"version name":      {answer: change("keys", map[string]any{"01": map[string]any{}}), is: smartcred.ErrUnavailable},
		"no PEM":            {answer: change("keys", map[string]any{"1": map[string]any{"public_key": "x", "creation_time": "2030-01-01T00:00:00Z"}}), is: smartcred.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := parseKey(c.answer)
			if err == nil {
				_, err = info.list(c.opts)
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %v, %q", err, c.is, c.says)
			}
		})
	}
}

func TestCustody(t *testing.T) {
	for name, c := range map[string]struct {
		field string
		want  signer.CustodyLevel
	}{
		"made inside": {want: signer.CustodyGenerated},
		"exportable":  {field: "exportable", want: signer.CustodyExportable},
		"backup":      {field: "allow_plaintext_backup", want: signer.CustodyExportable},
		"imported":    {field: "imported_key", want: signer.CustodyImported},
	} {
		t.Run(name, func(t *testing.T) {
			answer := answerOf("ecdsa-p384", 0, 1)
			if c.field != "" {
				answer[c.field] = true
			}
			info, err := parseKey(answer)
			if err != nil {
				t.Fatal(err)
			}
			got := info.custody()
			if got.Level != c.want || c.field != "" && !strings.Contains(got.Evidence, c.field+"=true") {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestParseSignature(t *testing.T) {
	for text, ok := range map[string]bool{
		"vault:v2:AQID":     true,
		"vault:v1:AQID":     false, // another version
		"vault:v02:AQID":    false,
		"vault:v2:AQID=":    false, // padded
		"vault:v2:AQ+D":     false, // not base64url
		"vault:v2:AQI\nD":   false,
		"vault:v2":          false,
		"":                  false,
		"vault:v2:AQID:QQQ": false,
	} {
		if sig, err := parseSignature(text, 2); (err == nil) != ok || ok && string(sig) != "\x01\x02\x03" {
			t.Errorf("%q: %x, %v", text, sig, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(nil, "smart", nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("no client: %v", err)
	}
	for _, uri := range []string{
		"vault-transit://smart", "vault-transit://transit/smart#field", "vault-transit://transit/smart?version=0", "vault-transit://transit/smart?version=x",
		"vault-transit://transit/smart?mount=other", "vault-transit://transit/smart?kv=2", "vault-transit://transit/smart?field=x",
	} {
		t.Setenv("VAULT_ADDR", "https://vault.example.com")
		t.Setenv("VAULT_TOKEN", "x")
		if _, err := signer.Open(t.Context(), uri, nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestOpenDividesThePath(t *testing.T) {
	t.Setenv("VAULT_ADDR", "https://vault.example.com")
	t.Setenv("VAULT_TOKEN", "x")
	for uri, want := range map[string][2]string{
		"vault-transit://transit/smart":                           {"transit", "smart"},
		"vault-transit://team/transit/smart":                      {"team/transit", "smart"},
		"vault-transit://team/transit/smart?mount=team%2Ftransit": {"team/transit", "smart"},
	} {
		opened, err := signer.Open(t.Context(), uri, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := opened.(*Signer)
		if got := [2]string{s.mount, s.key}; got != want {
			t.Errorf("%s: %v", uri, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, a := range []map[string]any{answerOf("ecdsa-p384", 0, 3, 2, 1), answerOf("rsa-2048", 2, 1), {"type": "ecdsa-p384", "keys": map[string]any{"1": nil}}} {
		text, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), 0, int64(0))
	}
	f.Fuzz(func(t *testing.T, text string, version int, publishFor int64) {
		var data map[string]any
		if json.Unmarshal([]byte(text), &data) != nil {
			return
		}
		info, err := parseKey(data)
		if err != nil {
			return
		}
		keys, err := info.list(Options{Version: max(version, 0), PublishFor: max(time.Duration(publishFor), 0)})
		if err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
		for _, k := range keys {
			if err := k.Check(); err != nil || k.ID == "" || k.Version == "" {
				t.Errorf("%+v: %v", k, err)
			}
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	f.Add("vault:v2:AQID", 2)
	f.Add("vault:v:", 0)
	f.Fuzz(func(t *testing.T, text string, version int) {
		sig, err := parseSignature(text, version)
		if err == nil && !strings.HasPrefix(text, fmt.Sprintf("vault:v%d:", version)) {
			t.Errorf("%q: %x", text, sig)
		}
	})
}
