package vaultkv

import (
	"encoding/json"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

func TestParsePlace(t *testing.T) {
	for uri, want := range map[string]place{
		"vault-kv://secret/team/app":                        {path: "secret/team/app"},
		"vault-kv://secret/team/app?kv=2":                   {mount: "secret", path: "team/app", kv: 2},
		"vault-kv://secret/team/app?kv=1&mount=secret/team": {mount: "secret/team", path: "app", kv: 1},
		"vault-kv://secret/team/app?mount=secret":           {mount: "secret", path: "team/app"},
		"vault-kv://secret":                                 {},
		"vault-kv://secret/app?kv=3":                        {},
		"vault-kv://secret/app?mount=other":                 {},
	} {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parsePlace(u, u.Query())
		if got != want || (err == nil) != (want != place{}) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
		if err != nil && !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Setenv("VAULT_ADDR", "https://vault.example.com")
	t.Setenv("VAULT_TOKEN", "x")
	for _, uri := range []string{"vault-kv://secret/app", "vault-kv://secret/app?version=1#x", "vault-kv://secret#x"} {
		if _, err := secretsource.Open(t.Context(), uri, nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if _, err := New(nil, "app", "x", nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("no client: %v", err)
	}
}

func TestParseVersion(t *testing.T) {
	full := `{"data":{"f":"v"},"metadata":{"version":3,"created_time":"2030-01-02T03:04:05.6Z","deletion_time":"2031-01-01T00:00:00Z","destroyed":false}}`
	for text, ok := range map[string]bool{
		full: true,
		`{"data":null,"metadata":{"version":3,"created_time":"2030-01-02T03:04:05Z"}}`:                          false,
		`{"data":{},"metadata":{"version":0,"created_time":"2030-01-02T03:04:05Z"}}`:                            false,
		`{"data":{},"metadata":{"version":1,"created_time":"yesterday"}}`:                                       false,
		`{"data":{},"metadata":{"version":1,"created_time":"2030-01-02T03:04:05Z","deletion_time":"tomorrow"}}`: false,
		`{"data":{},"metadata":{"version":"1","created_time":"2030-01-02T03:04:05Z"}}`:                          false,
		`{"data":{}}`: false,
		`{}`:          false,
	} {
		v, err := parseVersion(decode(t, text))
		if (err == nil) != ok || err != nil && !errors.Is(err, smartcred.ErrUnavailable) {
			t.Errorf("%s: %+v, %v", text, v, err)
		}
		if ok && (v.number != 3 || v.created.Second() != 5 || !v.expires.Equal(time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC))) {
			t.Errorf("%+v", v)
		}
	}
}

func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	var data map[string]any
	if err := json.Unmarshal([]byte(text), &data); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestValue(t *testing.T) {
	s := &Source{field: "f"}
	for text, want := range map[string]error{
		`{"f":"v"}`:       nil,
		`{"f":"v\n"}`:     nil,
		`{"f":"v\r\n"}`:   nil,
		`{"f":"\n"}`:      smartcred.ErrNotFound,
		`{}`:              smartcred.ErrNotFound,
		`{"f":null}`:      smartcred.ErrNotFound,
		`{"f":""}`:        smartcred.ErrNotFound,
		`{"F":"v"}`:       smartcred.ErrNotFound,
		`{"f":1}`:         smartcred.ErrInvalidConfig,
		`{"f":{"a":"b"}}`: smartcred.ErrInvalidConfig,
	} {
		value, err := s.value(decode(t, text))
		if !errors.Is(err, want) || want == nil && string(value) != "v" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add(`{"data":{"f":"v"},"metadata":{"version":3,"created_time":"2030-01-02T03:04:05.6Z","deletion_time":""}}`)
	f.Add(`{"data":null,"metadata":{"version":3,"destroyed":true}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var data map[string]any
		if json.Unmarshal([]byte(text), &data) != nil {
			return
		}
		v, err := parseVersion(data)
		if err == nil && (v.number < 1 || v.created.IsZero() && v.data == nil) {
			t.Errorf("%q: %+v", text, v)
		}
		_, _ = (&Source{field: "f"}).value(v.data)
	})
}
