//go:build cgo

package pkcs11

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

func TestSchedule(t *testing.T) {
	day := func(n int) time.Time { return time.Now().AddDate(0, 0, n).Truncate(24 * time.Hour) }
	dated := func(name string, n int) tokenKey {
		return tokenKey{Key: signer.Key{Version: name, NotBefore: day(n)}, thumb: name, dated: true}
	}
	undated := func(name string) tokenKey { return tokenKey{Key: signer.Key{Version: name}, thumb: name} }
	for name, tt := range map[string]struct {
		settled string
		keys    []tokenKey
		want    string // empty: an error
	}{
		"none":                             {"", nil, "-"},
		"one":                              {"", []tokenKey{undated("a")}, "a"},
		"by date":                          {"", []tokenKey{dated("a", -3), dated("c", 4), dated("b", -1)}, "c b a"},
		"one day":                          {"", []tokenKey{dated("b", -1), dated("a", -1)}, "a b"},
		"undated before":                   {"", []tokenKey{undated("a"), dated("b", -1), undated("c")}, "b a c"},
		"two undated":                      {"", []tokenKey{undated("a"), undated("b")}, ""},
		"two undated, one dated to come":   {"", []tokenKey{undated("a"), undated("b"), dated("c", 3)}, ""},
		"one came":                         {"a", []tokenKey{undated("b"), undated("a")}, "b! a"},
		"two came":                         {"b", []tokenKey{undated("c"), undated("a"), undated("b"), dated("d", 3)}, "a! c! d b"},
		"came in the place of the other":   {"x", []tokenKey{undated("b")}, "b"},
		"two came in the place of another": {"x", []tokenKey{undated("b"), undated("c")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Signer{settled: tt.settled}
			got, err := s.schedule(tt.keys)
			if tt.want == "" {
				if !errors.Is(err, smartcred.ErrInvalidConfig) {
					t.Errorf("%v, want ErrInvalidConfig", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, k := range got {
				name := k.Version
				if k.NotBefore.Equal(signer.Unscheduled) {
					name += "!"
				}
				names = append(names, name)
			}
			if diff := cmp.Diff(strings.Trim(tt.want, "-"), strings.Join(names, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysWithOneID(t *testing.T) {
	keys := []tokenKey{{Key: signer.Key{Version: "01"}, thumb: "aaaaaaaaaa"}, {Key: signer.Key{Version: "02"}, thumb: "bbbbbbbbbb"}, {Key: signer.Key{Version: "01"}, thumb: "cccccccccc"}}
	distinguish(keys)
	var got []string
	for _, k := range keys {
		got = append(got, k.Version)
	}
	if diff := cmp.Diff([]string{"01~aaaaaaaa", "02", "01~cccccccc"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTokenMatches(t *testing.T) {
	token := cryptoki.TokenInfo{Label: "a", ManufacturerID: "m"}
	for text, want := range map[string]bool{
		"": true, "token=a": true, "token=b": false, "token=": false, "serial=": true, "serial=1": false, "slot-id=3": true, "slot-id=0": false, "token=a;manufacturer=m;model=": true,
	} {
		o, _, err := parseURI(&url.URL{Scheme: scheme, Opaque: text})
		if got := o.Token.matches(3, token); err != nil || got != want || o.Token.String() != text {
			t.Errorf("%q matches: %t, %v; written %q", text, got, err, o.Token.String())
		}
	}
}

func TestDate(t *testing.T) {
	for text, want := range map[string]string{
		"": "0001-01-01", "\x00\x00\x00\x00\x00\x00\x00\x00": "0001-01-01", "        ": "0001-01-01", "00000000": "0001-01-01",
		"20260228": "2026-02-28", "20260230": "", "2026022": "", "202602281": "", "s3cr3tsx": "",
	} {
		got, err := (objectAttributes{1: []byte(text)}).date(1)
		if (err == nil) != (want != "") || err == nil && got.Format(time.DateOnly) != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestVersion(t *testing.T) {
	for want, a := range map[string]objectAttributes{
		"01ab":    {cryptoki.CKA_ID: {1, 0xab}, cryptoki.CKA_LABEL: []byte("k")},
		"00":      {cryptoki.CKA_ID: {0}},
		"label:k": {cryptoki.CKA_LABEL: []byte("k")},
		"label:":  {},
	} {
		if got := version(a); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCustodyLevels(t *testing.T) {
	yes, no := []byte{1}, []byte{0}
	all := func(local, never, always, extractable, sensitive []byte) objectAttributes {
		return objectAttributes{
			cryptoki.CKA_LOCAL: local, cryptoki.CKA_NEVER_EXTRACTABLE: never, cryptoki.CKA_ALWAYS_SENSITIVE: always,
			cryptoki.CKA_EXTRACTABLE: extractable, cryptoki.CKA_SENSITIVE: sensitive,
		}
	}
	for name, tt := range map[string]struct {
		a    objectAttributes
		want signer.CustodyLevel
	}{
		"made inside":          {all(yes, yes, yes, no, yes), signer.CustodyGenerated},
		"imported":             {all(no, no, no, no, yes), signer.CustodyImported},
		"was extractable":      {all(yes, no, yes, no, yes), signer.CustodyImported},
		"was not sensitive":    {all(yes, yes, no, no, yes), signer.CustodyImported},
		"extractable":          {all(yes, no, yes, yes, yes), signer.CustodyExportable},
		"in the clear":         {all(yes, yes, yes, no, no), signer.CustodyExportable},
		"says nothing":         {objectAttributes{}, signer.CustodyUnknown},
		"extractable not said": {all(yes, yes, yes, nil, yes), signer.CustodyUnknown},
		"sensitive not said":   {all(yes, yes, yes, no, nil), signer.CustodyUnknown},
		"origin not said":      {all(nil, nil, nil, no, yes), signer.CustodyImported},
	} {
		got := custody(tt.a, cryptoki.TokenInfo{Label: "smart"})
		if got.Level != tt.want || !strings.Contains(got.Evidence, `token "smart"`) || strings.Count(got.Evidence, "CKA_") != 5 {
			t.Errorf("%s: %s: %s", name, got.Level, got.Evidence)
		}
	}
}

func TestErrorsAreTyped(t *testing.T) {
	for code, want := range map[cryptoki.Error]error{
		cryptoki.CKR_PIN_INCORRECT:              smartcred.ErrDenied,
		cryptoki.CKR_PIN_LOCKED:                 smartcred.ErrDenied,
		cryptoki.CKR_USER_NOT_LOGGED_IN:         smartcred.ErrDenied,
		cryptoki.CKR_KEY_FUNCTION_NOT_PERMITTED: smartcred.ErrDenied,
		cryptoki.CKR_MECHANISM_INVALID:          smartcred.ErrUnsupportedAlgorithm,
		cryptoki.CKR_DEVICE_REMOVED:             smartcred.ErrUnavailable,
		cryptoki.CKR_SESSION_HANDLE_INVALID:     smartcred.ErrUnavailable,
		cryptoki.CKR_HOST_MEMORY:                smartcred.ErrUnavailable,
		cryptoki.Error(0x80000001):              smartcred.ErrUnavailable,
	} {
		err := failed("sign", code)
		var got cryptoki.Error
		if !errors.Is(err, want) || !errors.As(err, &got) || got != code {
			t.Errorf("%v: %v, want %v", code, err, want)
		}
	}
}

func TestPINMemory(t *testing.T) {
	var m pinMemory
	now := time.Unix(1e9, 0)
	m.refuse("a", []byte("1"))
	m.refuse("a", []byte("2"))
	for _, tt := range []struct {
		token, pin string
		want       error
	}{{"a", "1", smartcred.ErrDenied}, {"a", "2", smartcred.ErrDenied}, {"a", "3", nil}, {"b", "1", nil}} {
		if got := m.check(tt.token, []byte(tt.pin), now.Add(24*time.Hour)); !errors.Is(got, tt.want) {
			t.Errorf("token %s, PIN %s: %v", tt.token, tt.pin, got)
		}
	}
	for range 2 {
		for i, want := range []time.Duration{time.Second, time.Minute, 10 * time.Minute, time.Hour, time.Hour} {
			m.doubt("a", []byte("3"), now)
			var unavailable *smartcred.UnavailableError
			if err := m.check("a", []byte("3"), now); !errors.As(err, &unavailable) || unavailable.RetryAfter != want {
				t.Errorf("after %d vague failures: %v, want %s", i+1, err, want)
			}
			if now = now.Add(want); m.check("a", []byte("3"), now) != nil || m.check("b", []byte("3"), now) != nil {
				t.Errorf("%s after %d vague failures it is not tried", want, i+1)
			}
		}
		m.taken("a", []byte("3"))
	}
	m.forget()
	if err := m.check("a", []byte("1"), now); err != nil {
		t.Errorf("it did not forget: %v", err)
	}
}
