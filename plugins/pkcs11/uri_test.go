package pkcs11

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

var selectors = cmp.AllowUnexported(TokenSelector{})

func slot(n uint) *uint { return &n }

func TestParseURI(t *testing.T) {
	for name, tt := range map[string]struct {
		text, pin string
		want      Options
	}{
		"RFC 7512 section 3": {
			"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;type=private;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
			"file:/etc/token_pin", Options{
				Token: TokenSelector{Label: "The Software PKCS#11 Softtoken", Manufacturer: "Snake Oil, Inc.", Model: "1.0", empty: []string{"serial"}},
				Key:   KeySelector{Label: "my-certificate", ID: []byte("\x69\x95\x3e\x5c\xf4\xbd\xec\x91")},
			},
		},
		"everything": {
			"pkcs11:token=My%20token;serial=1a%2Fb;manufacturer=Snake%20Oil,%20Inc.;model=1.0;slot-id=327;object=a+b%3Bc;id=%00%fF;type=private?module-path=/usr/lib/libhsm.so&pin-source=vault-kv%3A%2F%2Fsecret%2Fhsm%23pin&next=object=n&previous=id=%01&pin-count-low=try",
			"vault-kv://secret/hsm#pin",
			Options{
				Module: "/usr/lib/libhsm.so",
				Token:  TokenSelector{Label: "My token", Serial: "1a/b", Manufacturer: "Snake Oil, Inc.", Model: "1.0", Slot: slot(327)},
				Key:    KeySelector{Label: "a+b;c", ID: []byte{0, 0xff}},
				Next:   KeySelector{Label: "n"}, Previous: KeySelector{ID: []byte{1}}, TryLowPIN: true,
			},
		},
		"upper-case scheme": {"PKCS11:object=k", "", Options{Key: KeySelector{Label: "k"}}},
		"characters":        {"pkcs11:object=:[]@!$'()*+,=&-._~?pin-source=file:/a?b|c", "file:/a?b|c", Options{Key: KeySelector{Label: ":[]@!$'()*+,=&-._~"}}},
		"next, label":       {"pkcs11:object=k?next=smart%202027", "", Options{Key: KeySelector{Label: "k"}, Next: KeySelector{Label: "smart 2027"}}},
		"next, both":        {"pkcs11:object=k?next=object%3Da%3Bid%3D%2501", "", Options{Key: KeySelector{Label: "k"}, Next: KeySelector{Label: "a", ID: []byte{1}}}},
		"next, percent":     {"pkcs11:object=k?next=object=100%25", "", Options{Key: KeySelector{Label: "k"}, Next: KeySelector{Label: "100%"}}},
		"nothing":           {"pkcs11:", "", Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got, pin, err := parseURI(u)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, selectors); diff != "" || pin != tt.pin {
				t.Errorf("pin-source %q; (-want +got):\n%s", pin, diff)
			}
		})
	}
}

func TestParseURIRefuses(t *testing.T) {
	const secret = "s3cr3t"
	for name, tt := range map[string]struct{ text, says string }{
		"pin-value":            {"pkcs11:object=k?pin-value=" + secret, "pin-source"},
		"pin-value in path":    {"pkcs11:object=k;pin-value=" + secret, "no secret stands in a configuration"},
		"pin-value, ; for &":   {"pkcs11:object=k?module-path=/m.so;pin-value=" + secret, "no secret stands in a configuration"},
		"pin-value, & for ;":   {"pkcs11:object=k&pin-value=" + secret + "?module-path=/m.so", "no secret stands in a configuration"},
		"pin-value of a file":  {"pkcs11:object=k?pin-source=file:/x%3Fpin-value%3D" + secret, "no secret stands in a configuration"},
		"module-name":          {"pkcs11:object=k?module-name=softhsm2", "module-path"},
		"unknown":              {"pkcs11:objct=" + secret, `"objct": known are token, serial, manufacturer, model, slot-id, object, id, type`},
		"unknown option":       {"pkcs11:object=k?pin=" + secret, `"pin": known are module-path, pin-source, next, previous, pin-count-low`},
		"unknown and secret":   {"pkcs11:S3CR3T%00=a", "unknown attribute: known are"},
		"query in path":        {"pkcs11:object=k;module-path=/x", "after the question mark"},
		"path in query":        {"pkcs11:module-path=/x?object=k", "after the question mark"},
		"path attribute":       {"pkcs11:object=k?token=" + secret, "before the question mark"},
		"twice":                {"pkcs11:object=k;object=" + secret, "object: given twice"},
		"no value":             {"pkcs11:object", "object: has no value"},
		"empty":                {"pkcs11:object=", "object: has no value"},
		"empty attribute":      {"pkcs11:object=k;", "unknown attribute: known are"},
		"malformed percent":    {"pkcs11:object=" + secret + "%zz", "object: special characters"},
		"space":                {"pkcs11:object=" + secret + " x", "object: special characters"},
		"letters of others":    {"pkcs11:object=" + secret + "é", "object: special characters"},
		"slash in path":        {"pkcs11:object=" + secret + "/x", "object: special characters"},
		"with slashes":         {"pkcs11://object=" + secret, "has no slashes"},
		"with one slash":       {"pkcs11:/object=" + secret, "has no slashes"},
		"fragment":             {"pkcs11:object=k#" + secret, "%23"},
		"slot":                 {"pkcs11:slot-id=" + secret, "slot-id: is not a decimal number"},
		"signed slot":          {"pkcs11:slot-id=+1", "slot-id: is not a decimal number"},
		"type":                 {"pkcs11:type=cert", "type=private"},
		"pin-count-low":        {"pkcs11:object=k?pin-count-low=yes", `"try"`},
		"program for a PIN":    {"pkcs11:object=k?pin-source=|/bin/" + secret, "pin-source: no program"},
		"next, unknown":        {"pkcs11:object=k?next=label=" + secret, `next: unknown attribute "label"`},
		"next, empty":          {"pkcs11:object=k?next=object=", "next: object is empty"},
		"next, twice":          {"pkcs11:object=k?next=id=a;id=b", "next: id is given twice"},
		"previous, nothing in": {"pkcs11:object=k?previous=;=", "previous: unknown attribute"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(tt.text)
			if err != nil {
				u = &url.URL{Scheme: scheme, Opaque: strings.TrimPrefix(tt.text, "pkcs11:")}
			}
			_, _, err = parseURI(u)
			if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v, want ErrInvalidConfig that says %q", err, tt.says)
			}
			if strings.Contains(strings.ToLower(err.Error()), secret) {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func FuzzParseURI(f *testing.F) {
	for _, text := range []string{
		"token=t;object=k;id=%01%02?module-path=/m.so&pin-source=env:PIN&next=object%3Dn&pin-count-low=try",
		"slot-id=1;serial=%", "object=a=b?previous=id=%253B", "?", ";;?&&", "object=k?pin-value=1234", "object=k?next=%3B%3D",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		u, err := url.Parse("pkcs11:" + rest)
		if err != nil {
			return
		}
		o, pin, err := parseURI(u)
		if err != nil {
			if !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Fatalf("an error of no type: %v", err)
			}
			return
		}
		// What was read can be written and read again.
		written := scheme + ":" + attributes(attribute{"object", o.Key.Label}, attribute{"id", string(o.Key.ID)})
		if token := o.Token.String(); token != "" {
			written += ";" + token
		}
		written = strings.Replace(written, ":;", ":", 1)
		again, err := url.Parse(written + "?" + query(o, pin))
		if err != nil {
			t.Fatalf("%q: %v", written, err)
		}
		second, secondPIN, err := parseURI(again)
		if diff := cmp.Diff(o, second, selectors); err != nil || diff != "" || pin != secondPIN {
			t.Fatalf("%q: %v, (-first +second):\n%s", again, err, diff)
		}
	})
}

func query(o Options, pin string) string {
	list := []attribute{{"module-path", o.Module}, {"pin-source", pin}}
	if o.TryLowPIN {
		list = append(list, attribute{"pin-count-low", "try"})
	}
	if !o.Next.IsZero() {
		list = append(list, attribute{"next", o.Next.String()})
	}
	if !o.Previous.IsZero() {
		list = append(list, attribute{"previous", o.Previous.String()})
	}
	return strings.ReplaceAll(attributes(list...), ";", "&")
}
