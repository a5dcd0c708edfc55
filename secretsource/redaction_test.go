package secretsource

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

const canary = "canary-S3cr3t/+value"

// shows reports whether out holds the canary, plain or in an encoding that
// printing could give it.
func shows(out string) bool {
	list := strings.Trim(fmt.Sprint([]byte(canary)), "[]")
	forms := []string{
		canary,
		fmt.Sprintf("%q", canary),
		hex.EncodeToString([]byte(canary)),
		base64.StdEncoding.EncodeToString([]byte(canary)),
		list,
		strings.ReplaceAll(list, " ", ","),
		strings.Trim(fmt.Sprintf("%#v", []byte(canary)), "[]byte{}"),
	}
	lower := strings.ToLower(out)
	for _, form := range forms {
		if strings.Contains(lower, strings.ToLower(form)) {
			return true
		}
	}
	return false
}

func TestShowsFindsTheCanary(t *testing.T) {
	for _, format := range []string{"%s", "%q", "%x", "%X", "%v", "%d", "%#v"} {
		if !shows(fmt.Sprintf(format, []byte(canary))) {
			t.Errorf("%s of the bytes is not recognized", format)
		}
	}
	if out, _ := json.Marshal([]byte(canary)); !shows(string(out)) {
		t.Error("JSON of the bytes is not recognized")
	}
}

type exposed struct {
	Secret  Secret
	Pointer *Secret
	List    []Secret
	Map     map[string]Secret
}

type hidden struct {
	secret  Secret
	pointer *Secret
	list    []Secret
	any     any
}

func holders() map[string]any {
	s := New([]byte(canary), "v7")
	cache := NewCache(Static([]byte(canary)), nil)
	cache.slots[Current].last = s
	fingerprinted := (&OpenOptions{FingerprintKey: []byte(canary)}).NewSecret([]byte("other"))
	return map[string]any{
		"value":          s,
		"pointer":        &s,
		"exported":       exposed{s, &s, []Secret{s}, map[string]Secret{"k": s}},
		"to exported":    &exposed{s, &s, []Secret{s}, map[string]Secret{"k": s}},
		"unexported":     hidden{s, &s, []Secret{s}, s},
		"to unexported":  &hidden{s, &s, []Secret{s}, &s},
		"nested":         struct{ inner hidden }{hidden{secret: s}},
		"slice":          []Secret{s},
		"any":            []any{s, &s},
		"static source":  Static([]byte(canary)),
		"list of static": List(Static([]byte(canary))),
		"cache":          cache,
		"key of version": fingerprinted,
		"key in env":     Env("X", &OpenOptions{FingerprintKey: []byte(canary)}),
		"key in file":    File("x", &OpenOptions{FingerprintKey: []byte(canary)}),
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	verbs := strings.Split("v +v #v s +s #s q +q #q x X #x d b o O c U e E f F g G t T p w z", " ")
	for name, holder := range holders() {
		t.Run(name, func(t *testing.T) {
			for _, verb := range verbs {
				if out := fmt.Sprintf("%"+verb, holder); shows(out) {
					t.Errorf("%%%s shows the value: %s", verb, out)
				}
			}
			for what, out := range map[string]string{
				"Sprint":   fmt.Sprint(holder),
				"Sprintln": fmt.Sprintln(holder),
				"Errorf":   fmt.Errorf("x: %v", holder).Error(),
			} {
				if shows(out) {
					t.Errorf("%s shows the value: %s", what, out)
				}
			}
		})
	}
}

func TestFingerprintKeyDoesNotPrint(t *testing.T) {
	opts := OpenOptions{FingerprintKey: []byte(canary)}
	for name, holder := range map[string]any{"options": opts, "pointer": &opts, "embedded": struct{ OpenOptions }{opts}} {
		for _, verb := range strings.Split("v +v #v s q x X d", " ") {
			if out := fmt.Sprintf("%"+verb, holder); shows(out) || !strings.Contains(out, redacted) {
				t.Errorf("%%%s of %s: %s", verb, name, out)
			}
		}
		out, err := json.Marshal(holder)
		if err != nil || shows(string(out)) {
			t.Errorf("JSON of %s: %s, %v", name, out, err)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", opts.FingerprintKey, "options", opts)
	if shows(log.String()) {
		t.Errorf("slog: %s", log.String())
	}
}

func TestSecretFormatsAsRedacted(t *testing.T) {
	s := New([]byte(canary), "v7")
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, s); got != redacted {
			t.Errorf("%s of a Secret = %q", format, got)
		}
		if got := fmt.Sprintf(format, &s); got != redacted {
			t.Errorf("%s of a *Secret = %q", format, got)
		}
	}
	if got, want := fmt.Sprintf("%+v", struct{ S Secret }{s}), "{S:"+redacted+"}"; got != want {
		t.Errorf("%%+v of a struct = %q, want %q", got, want)
	}
}

func TestSecretDoesNotEncode(t *testing.T) {
	for name, holder := range holders() {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			check := func(encoding string) {
				t.Helper()
				if shows(out.String()) {
					t.Errorf("%s shows the value: %s", encoding, out.String())
				}
				out.Reset()
			}
			// What can't be encoded leaves an error, which must not show it either.
			encode := func(encoding string, err error) {
				t.Helper()
				fmt.Fprint(&out, err)
				check(encoding)
			}
			encode("JSON", json.NewEncoder(&out).Encode(holder))
			encode("XML", xml.NewEncoder(&out).Encode(holder))
			encode("gob", gob.NewEncoder(&out).Encode(holder))

			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "holder", holder, slog.Group("g", "holder", holder))
			check("slog text")
			slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "holder", holder, slog.Group("g", "holder", holder))
			check("slog JSON")
		})
	}
}

func TestSecretEncodesAsRedacted(t *testing.T) {
	s := New([]byte(canary), "v7")
	tests := map[string]func() ([]byte, error){
		"text":         s.MarshalText,
		"JSON":         func() ([]byte, error) { return json.Marshal(s) },
		"JSON pointer": func() ([]byte, error) { return json.Marshal(&s) },
		"JSON map key": func() ([]byte, error) { return json.Marshal(map[string]any{"k": s}) },
		"XML":          func() ([]byte, error) { return xml.Marshal(exposed{Secret: s}.Secret) },
	}
	for name, marshal := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := marshal()
			if err != nil || !strings.Contains(string(out), redacted) {
				t.Errorf("%s, %v", out, err)
			}
		})
	}
}

func TestSecret(t *testing.T) {
	value := []byte("abc")
	s := New(value, "1")
	value[0] = 'X'
	got := s.Reveal()
	if string(got) != "abc" {
		t.Errorf("Reveal = %q: New kept the caller's slice", got)
	}
	got[0] = 'X'
	if string(s.Reveal()) != "abc" {
		t.Error("Reveal gave the value itself, not a copy")
	}
	if !(Secret{}).IsZero() || s.IsZero() || New(nil, "").IsZero() {
		t.Error("IsZero: only the zero Secret is zero")
	}
	if (Secret{}).Reveal() != nil {
		t.Error("the zero Secret reveals something")
	}
	same := New([]byte("abc"), "2")
	same.Created = time.Unix(1, 0)
	equal := map[string]struct {
		a, b Secret
		want bool
	}{
		"same value, other version": {s, same, true},
		"other value":               {s, New([]byte("abd"), "1"), false},
		"other length":              {s, New([]byte("ab"), "1"), false},
		"zero and zero":             {Secret{}, Secret{}, true},
		"zero and empty":            {Secret{}, New(nil, ""), false},
	}
	for name, tt := range equal {
		if tt.a.Equal(tt.b) != tt.want || tt.b.Equal(tt.a) != tt.want {
			t.Errorf("%s: Equal is not %t", name, tt.want)
		}
	}
}
