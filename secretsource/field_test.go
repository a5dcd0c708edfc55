package secretsource

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/smartcred/smartcred"
)

func TestField(t *testing.T) {
	tests := map[string]struct {
		value, name, want string
		err               error
	}{
		"only member":        {`{"a":"x"}`, "a", "x", nil},
		"among others":       {`{"b":1,"a":"x","c":{"a":"y"},"d":[null]}`, "a", "x", nil},
		"white space":        {" \n{ \"a\" :\t\"x\" }\r\n", "a", "x", nil},
		"escapes":            {`{"\u0061":"\u00fc\n\ud83d\ude00"}`, "a", "ü\n😀", nil},
		"odd name":           {`{"a b/ü":"x"}`, "a b/ü", "x", nil},
		"missing":            {`{"b":"x"}`, "a", "", smartcred.ErrNotFound},
		"empty object":       {`{}`, "a", "", smartcred.ErrNotFound},
		"other case":         {`{"A":"x"}`, "a", "", smartcred.ErrNotFound},
		"nested only":        {`{"b":{"a":"x"}}`, "a", "", smartcred.ErrNotFound},
		"both cases":         {`{"A":"y","a":"x"}`, "a", "x", nil},
		"twice":              {`{"a":"x","a":"x"}`, "a", "", smartcred.ErrInvalidConfig},
		"twice, escaped":     {`{"a":"x","\u0061":"y"}`, "a", "", smartcred.ErrInvalidConfig},
		"another twice":      {`{"a":"x","b":1,"b":2}`, "a", "", smartcred.ErrInvalidConfig},
		"empty string":       {`{"a":""}`, "a", "", smartcred.ErrInvalidConfig},
		"number":             {`{"a":1}`, "a", "", smartcred.ErrInvalidConfig},
		"null":               {`{"a":null}`, "a", "", smartcred.ErrInvalidConfig},
		"object":             {`{"a":{"a":"x"}}`, "a", "", smartcred.ErrInvalidConfig},
		"array of objects":   {`[{"a":"x"}]`, "a", "", smartcred.ErrInvalidConfig},
		"string":             {`"a"`, "a", "", smartcred.ErrInvalidConfig},
		"plain secret":       {canary, "a", "", smartcred.ErrInvalidConfig},
		"empty":              {` `, "a", "", smartcred.ErrInvalidConfig},
		"cut":                {`{"a":"x"`, "a", "", smartcred.ErrInvalidConfig},
		"cut in value":       {`{"a":"` + canary, "a", "", smartcred.ErrInvalidConfig},
		"no value":           {`{"a"}`, "a", "", smartcred.ErrInvalidConfig},
		"trailing data":      {`{"a":"x"}{}`, "a", "", smartcred.ErrInvalidConfig},
		"trailing comma":     {`{"a":"x",}`, "a", "", smartcred.ErrInvalidConfig},
		"no comma":           {`{"b":1 "a":"x"}`, "a", "", smartcred.ErrInvalidConfig},
		"name is no string":  {`{1:"x"}`, "a", "", smartcred.ErrInvalidConfig},
		"invalid UTF-8":      {"{\"a\":\"x\xff\"}", "a", "", smartcred.ErrInvalidConfig},
		"half a surrogate":   {`{"a":"x\ud83d"}`, "a", "", smartcred.ErrInvalidConfig},
		"byte order mark":    {"\ufeff{\"a\":\"x\"}", "a", "", smartcred.ErrInvalidConfig},
		"other value hidden": {`{"a":1,"b":"` + canary + `"}`, "a", "", smartcred.ErrInvalidConfig},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src := Field(Static([]byte(tt.value)), tt.name)
			expect(t, src, Current, tt.want, tt.err)
			if _, err := src.Lookup(t.Context(), Current); err != nil {
				if shows(err.Error()) || !strings.Contains(err.Error(), `"`+tt.name+`"`) {
					t.Errorf("error %q", err)
				}
			}
		})
	}
}

func TestFieldPassesErrorsOn(t *testing.T) {
	for _, want := range []error{smartcred.ErrDenied, smartcred.ErrUnavailable, smartcred.ErrNotFound} {
		expect(t, Field(failing(want), "a"), Current, "", want)
	}
}

func TestFieldVersion(t *testing.T) {
	lookup := func(value string) Secret {
		return expect(t, Field(Static([]byte(value)), "a"), Current, "x", nil)
	}
	one, two := lookup(`{"a":"x","b":1}`), lookup(`{"b":2,"a":"x"}`)
	if one.Version != two.Version {
		t.Error("the fingerprint changes with another member")
	}
	if plain := expect(t, Static([]byte("x")), Current, "x", nil); one.Version != plain.Version {
		t.Error("the fingerprint is not the member's")
	}

	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	versioned := &fake{lookup: func(context.Context, Stage) (Secret, error) {
		s := New([]byte(`{"a":"{\"b\":\"x\"}"}`), "7")
		s.Created, s.Expires = at, at.Add(time.Hour)
		return s, nil
	}}
	s := expect(t, Field(Field(versioned, "a"), "b"), Current, "x", nil)
	if s.Version != "7" || !s.Created.Equal(at) || !s.Expires.Equal(at.Add(time.Hour)) {
		t.Errorf("the backend's version and dates are lost: %q %s %s", s.Version, s.Created, s.Expires)
	}

	inner := Field(Static([]byte(`{"a":"{\"b\":\"x\"}"}`)), "a")
	if s := expect(t, Field(inner, "b"), Current, "x", nil); s.Version != one.Version {
		t.Error("a field of a field does not have its own fingerprint")
	}
}

func FuzzField(f *testing.F) {
	for _, seed := range []string{
		`{"a":"x"}`, `{"a":"x","a":"y"}`, `{"A":"x"}`, `{"a":1}`, `{"a":{"a":"x"}}`, `[]`, ``, `{"a":"\ud800"}`,
		`{"a" : "x" } {`, "{\"a\":\"\xff\"}", `{"\u0061":"x"}`, canary,
	} {
		f.Add([]byte(seed), "a")
	}
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		value, err := member(data, name)
		if err != nil {
			if !errors.Is(err, smartcred.ErrNotFound) && !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(value) == 0 || !utf8.Valid(value) {
			t.Fatalf("value %q", value)
		}
		// What is accepted is what a plain decoder finds too.
		var plain map[string]any
		if err := json.Unmarshal(data, &plain); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if plain[name] != string(value) {
			t.Fatalf("value %q, encoding/json says %q", value, plain[name])
		}
	})
}
