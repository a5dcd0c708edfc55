package uri

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
)

func lamps() *Registry[int] {
	return &Registry[int]{
		Package: "lamps", Noun: "a lamp", Misuse: "a light itself",
		Openers: map[string]int{"gas": 1},
		Plugins: map[string]string{"neon": "example.com/neon", "led": "example.com/led"},
		Foreign: []string{"oven"}, Other: "a stove",
	}
}

func TestFind(t *testing.T) {
	r := lamps()
	r.Register("led", 2)
	for name, tt := range map[string]struct {
		text, scheme, opaque string
		want                 int
		says                 string // of the error
	}{
		"built in":      {text: "gas:hall", scheme: "gas", opaque: "hall", want: 1},
		"upper case":    {text: "GAS:hall", scheme: "gas", opaque: "hall", want: 1},
		"plugin":        {text: "led:hall#left", scheme: "led", opaque: "hall", want: 2},
		"empty":         {says: "not a lamp's URI (a light itself does not belong here): it begins with gas:, led:, neon: (import example.com/neon)"},
		"no scheme":     {text: "s3cr3t", says: "not a lamp's URI"},
		"no letters":    {text: "-----BEGIN s3cr3t: x", says: "not a lamp's URI"},
		"not built in":  {text: "neon:s3cr3t", says: "neon: this program was built without it: import example.com/neon; it has gas:"},
		"another thing": {text: "oven:s3cr3t", says: "oven: a stove's scheme: a lamp's URI begins with gas:"},
		"unknown":       {text: "s3cr3t:x", says: "unknown scheme: a lamp's URI begins with gas:"},
		"malformed":     {text: "gas://s3cr3t%zz/", says: "gas: not a valid URI"},
		"bare #":        {text: "gas:s3cr3t#", says: "gas: the URI ends in #"},
	} {
		t.Run(name, func(t *testing.T) {
			open, u, scheme, err := r.Find(tt.text)
			if tt.says == "" {
				if err != nil || open != tt.want || scheme != tt.scheme || u.Opaque != tt.opaque {
					t.Errorf("Find = %d, %v, %q, %v", open, u, scheme, err)
				}
				return
			}
			if !errors.Is(err, smartcred.ErrInvalidConfig) || u != nil {
				t.Fatalf("Find = %v, %v; want ErrInvalidConfig", u, err)
			}
			if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("error %q, want %q and nothing of the URI", err, tt.says)
			}
		})
	}
}

func TestRegisterPanics(t *testing.T) {
	for scheme, says := range map[string]string{
		"gas": "lamps: register gas: registered already",
		"":    `lamps: register "": not a lower-case URI scheme`,
		"Gas": `lamps: register "Gas": not a lower-case URI scheme`,
		"g s": `lamps: register "g s": not a lower-case URI scheme`,
		"1g":  `lamps: register "1g": not a lower-case URI scheme`,
	} {
		t.Run(scheme, func(t *testing.T) {
			defer func() {
				if got := recover(); got != says {
					t.Errorf("panic %v, want %v", got, says)
				}
			}()
			lamps().Register(scheme, 3)
		})
	}
}

func TestFilePath(t *testing.T) {
	for text, want := range map[string]string{
		"file:///a/b%20c":      "/a/b c",
		"file:/a":              "/a",
		"file:a%23/b#c":        "a#/b",
		"file://localhost/a":   "/a",
		"file:":                "",
		"file://host/a":        "",
		"file://u@/a":          "",
		"file:%zz":             "",
		"file://u:p@localhost": "",
	} {
		u, err := url.Parse(text)
		if err != nil {
			u = &url.URL{Scheme: "file", Opaque: strings.TrimPrefix(text, "file:")}
		}
		got, err := FilePath(u)
		if got != want || errors.Is(err, smartcred.ErrInvalidConfig) != (want == "") {
			t.Errorf("FilePath(%s) = %q, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, text := range []string{"gas:x", "gas://u:p@h/p?q=1#f", "neon:", "oven:x", "gas:#", "gas:%zz", "", ":"} {
		f.Add(text)
	}
	r := lamps()
	f.Fuzz(func(t *testing.T, text string) {
		_, u, scheme, err := r.Find(text)
		if (u == nil) == (err == nil) || err == nil && u.Scheme != scheme {
			t.Fatalf("Find = %v, %q, %v", u, scheme, err)
		}
		if u != nil {
			_, _ = FilePath(u)
		}
	})
}
