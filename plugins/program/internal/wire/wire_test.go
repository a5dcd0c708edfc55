package wire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

const publicPEM = `-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE6Q2w9n3k6ITy9mDGEb5KzrTzD9K3bN0N\nqkPLvQ4L7ZyMkxMXSLpqpjCVd7RxVXoYxYfZk5m3pTj9X9sYq0Qz\n-----END PUBLIC KEY-----\n`

func TestAnswers(t *testing.T) {
	secret := func(a *Answer) (any, error) { return a.Secret() }
	hello := func(a *Answer) (any, error) { return a.Hello() }
	keys := func(a *Answer) (any, error) { return a.Keys() }
	signature := func(a *Answer) (any, error) { s, der, err := a.Signature(); return []any{s, der}, err }
	for name, tt := range map[string]struct {
		text string
		read func(*Answer) (any, error)
		want any
		says string
	}{
		"hello":                   {`{"id":1,"protocol":1,"mode":"one-shot","roles":["source","oracle","source"],"new":{}}`, hello, HelloAnswer{1, OneShot, []string{RoleSource}}, ""},
		"hello of a later one":    {`{"id":1,"protocol":2}`, hello, HelloAnswer{Protocol: 2}, ""},
		"hello without a mode":    {`{"id":1,"protocol":1,"roles":[]}`, hello, nil, "no mode"},
		"hello of another mode":   {`{"id":1,"protocol":1,"mode":"x","roles":["signer"]}`, hello, nil, "neither one-shot nor long-lived"},
		"hello without roles":     {`{"id":1,"protocol":1,"mode":"one-shot","roles":[]}`, hello, nil, "no roles"},
		"hello with no number":    {`{"id":1,"protocol":"1"}`, hello, nil, "no protocol"},
		"secret":                  {`{"id":1,"secret":"s\u00e9","version":"7","created":"2026-01-02T03:04:05Z","expires":"2026-01-02T03:04:05.5+01:00"}`, secret, SecretAnswer{[]byte("sé"), "7", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 2, 2, 4, 5, 5e8, time.UTC)}, ""},
		"secret in base64":        {`{"id":1,"secret_base64":"/wA="}`, secret, SecretAnswer{Value: []byte{0xff, 0}}, ""},
		"secret twice":            {`{"id":1,"secret":"a","secret_base64":"YQ=="}`, secret, nil, "or both"},
		"secret null":             {`{"id":1,"secret":null}`, secret, nil, "neither"},
		"secret empty":            {`{"id":1,"secret":""}`, secret, nil, "empty"},
		"secret too long":         {`{"id":1,"secret":"` + strings.Repeat("x", MaxSecret+1) + `"}`, secret, nil, "longer"},
		"half a surrogate pair":   {`{"id":1,"secret":"\ud800"}`, secret, nil, "no Unicode"},
		"loose base64":            {`{"id":1,"secret_base64":"YQ"}`, secret, nil, "not base64"},
		"base64 in lines":         {`{"id":1,"secret_base64":"YQ==\n"}`, secret, nil, "not base64"},
		"version with a newline":  {`{"id":1,"secret":"a","version":"a\nb"}`, secret, nil, "do not print"},
		"version too long":        {`{"id":1,"secret":"a","version":"` + strings.Repeat("v", MaxName+1) + `"}`, secret, nil, "more than 256"},
		"no time":                 {`{"id":1,"secret":"a","expires":1}`, secret, nil, "no RFC 3339 time"},
		"signature":               {`{"id":1,"signature":"AAE="}`, signature, []any{[]byte{0, 1}, false}, ""},
		"signature in DER":        {`{"id":1,"signature_der":"MAA="}`, signature, []any{[]byte{0x30, 0}, true}, ""},
		"base64url":               {`{"id":1,"signature":"-_8="}`, signature, nil, "not base64"},
		"no signature":            {`{"id":1}`, signature, nil, "neither"},
		"no keys":                 {`{"id":1,"keys":[]}`, keys, []Key{}, ""},
		"keys that are no array":  {`{"id":1,"keys":{}}`, keys, nil, "no keys"},
		"too many keys":           {`{"id":1,"keys":[` + strings.Repeat("0,", MaxKeys) + `0]}`, keys, nil, "more than 64"},
		"a key that is none":      {`{"id":1,"keys":[1]}`, keys, nil, "no JSON object"},
		"a key without a version": {`{"id":1,"keys":[{}]}`, keys, nil, "no version"},
		"a key without a key":     {`{"id":1,"keys":[{"version":"1"}]}`, keys, nil, "no public_key"},
		"a private key":           {`{"id":1,"keys":[{"version":"1","public_key":"-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"}]}`, keys, nil, "not one PEM block"},
		"a key off its curve":     {`{"id":1,"keys":[{"version":"1","public_key":"` + publicPEM + `"}]}`, keys, nil, "no SubjectPublicKeyInfo"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := ParseAnswer([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := tt.read(a)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v, want %q", err, tt.says)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

func TestEnvelope(t *testing.T) {
	for text, says := range map[string]string{
		``:                          "not a JSON text",
		`[]`:                        "not a JSON object",
		`{"id":1}{}`:                "not a JSON text",
		`{"id":1,"id":2}`:           "a member twice",
		`{}`:                        "no id",
		`{"id":"1"}`:                "no id",
		`{"id":-1}`:                 "no id",
		`{"id":1.5}`:                "no id",
		`{"id":9007199254740993}`:   "no id",
		"\xef\xbb\xbf" + `{"id":1}`: "byte order mark",
		`{"id":1,"error":"s3cr3t"}`: "an error that is no JSON object",
		`{"id":1,"error":{}}`:       "no code",
		`{"id":1,"error":{"code":"unavailable","retry_after_ms":-1}}`: "no retry_after_ms",
	} {
		if _, err := ParseAnswer([]byte(text)); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
}

func TestFailures(t *testing.T) {
	for _, err := range []error{
		smartcred.ErrNotFound, smartcred.ErrDenied, smartcred.ErrInvalidConfig, smartcred.ErrUnsupportedAlgorithm, smartcred.ErrUnavailable,
	} {
		line, lineErr := AnswerLine(7, FailureOf(err).Members())
		if lineErr != nil {
			t.Fatal(lineErr)
		}
		a, parseErr := ParseAnswer(line)
		if parseErr != nil || a.ID != 7 || !errors.Is(a.Error.Err(), err) {
			t.Errorf("%v became %s and %v", err, line, parseErr)
		}
	}
	line, _ := AnswerLine(7, FailureOf(&smartcred.UnavailableError{RetryAfter: 90 * time.Second}).Members())
	a, err := ParseAnswer(line)
	if err != nil || a.Error.RetryAfter != 90*time.Second {
		t.Errorf("%s became %+v, %v", line, a, err)
	}
	var unavailable *smartcred.UnavailableError
	if err := (&Failure{Code: "from_the_future", RetryAfter: time.Second}).Err(); !errors.As(err, &unavailable) || unavailable.RetryAfter != time.Second {
		t.Errorf("an unknown code is %v", err)
	}
}

func TestKeysThereAndBack(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []signer.Key{
		{Version: "1", Algorithm: signer.ES384, Public: private.Public()},
		{ID: "kid", Version: "2", Algorithm: signer.ES384, Public: private.Public(), NotBefore: signer.Unscheduled,
			Custody: signer.Custody{Level: signer.CustodyGenerated, Evidence: "it says"}},
		{Version: "3", Algorithm: signer.ES384, Public: private.Public(), NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
	} {
		members, err := KeyMembers(key)
		if err != nil {
			t.Fatal(err)
		}
		line, err := AnswerLine(1, map[string]any{"keys": []any{members}})
		if err != nil {
			t.Fatal(err)
		}
		a, err := ParseAnswer(line)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := a.Keys()
		if err != nil || len(keys) != 1 {
			t.Fatalf("%s: %v", line, err)
		}
		k := keys[0]
		back := signer.Key{ID: k.ID, Version: k.Version, Algorithm: signer.Algorithm(k.Algorithm), Public: k.Public, NotBefore: k.NotBefore, Custody: k.Custody}
		if diff := cmp.Diff(key, back); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"id":1,"protocol":1,"mode":"one-shot","roles":["source"]}`,
		`{"id":1,"secret":"s","version":"7","created":"2026-01-02T03:04:05Z"}`, `{"id":1,"secret_base64":"/wA="}`,
		`{"id":1,"keys":[{"version":"1","id":"k","algorithm":"ES384","public_key":"` + publicPEM + `","custody":"generated","staged":true,"not_before":"2026-01-02T03:04:05Z"}]}`,
		`{"id":1,"signature":"AAE="}`, `{"id":1,"error":{"code":"unavailable","retry_after_ms":5}}`, `{"id":1,"error":null}`, "\xff", `{`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAnswer(text)
		if err != nil {
			return
		}
		if a.Error != nil && a.Error.Err() == nil {
			t.Fatal("a failure without an error")
		}
		if s, err := a.Secret(); err == nil && (len(s.Value) == 0 || len(s.Value) > MaxSecret || len(s.Version) > MaxName) {
			t.Fatalf("a secret of %d bytes, version %q", len(s.Value), s.Version)
		}
		if keys, err := a.Keys(); err == nil {
			for _, k := range keys {
				if k.Version == "" || k.Public == nil {
					t.Fatalf("key %+v", k)
				}
			}
		}
		_, _ = a.Hello()
		_, _, _ = a.Signature()
	})
}

func FuzzRequest(f *testing.F) {
	r := Request{ID: 1, Method: Sign, Protocol: Version, TimeoutMS: 5, Target: Target{Path: "a<b", Options: map[string]string{"x": "y"}}, Key: "1", Algorithm: "ES384", Input: []byte{0xff}, JTI: "j"}
	line, err := r.Line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"id":1,"method":"hello","protocols":[1,2],"future":{}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRequest(text)
		if err != nil {
			return
		}
		line, err := r.Line()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRequest(line)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Protocols) == 0 {
			r.Protocols = nil
		}
		if len(r.Options) == 0 {
			r.Options = nil
		}
		if len(r.Input) == 0 {
			r.Input = nil
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
