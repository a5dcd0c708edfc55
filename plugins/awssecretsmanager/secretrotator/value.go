package secretrotator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/secretsource"
)

// A Value is all that a secret holds at Secrets Manager: the client secret
// alone, or a JSON object that has it as a member. It prints as [redacted]. It
// is immutable, and safe for concurrent use.
type Value struct {
	whole secretsource.Secret
	field string
}

// readValue checks what Secrets Manager keeps. No error quotes it.
func readValue(text, version, field string) (Value, error) {
	if field == "" {
		text = awsclient.SecretText(text) // as consumers read it
	}
	v := Value{whole: secretsource.New([]byte(text), version), field: field}
	if field == "" {
		if text == "" {
			return Value{}, &smartcred.ConfigError{Option: "secret", Problem: "its value is empty"}
		}
		// A new value would take the place of all members.
		if _, err := strictjson.Object([]byte(text)); err == nil {
			return Value{}, &smartcred.ConfigError{Option: "field", Problem: "is missing: the secret's value is a JSON object; name its member with the client secret"}
		}
		return v, nil
	}
	o, err := v.object()
	if err != nil {
		return Value{}, err
	}
	if secret, state := o.String(field); state != strictjson.Present || secret == "" || strings.ContainsRune(secret, utf8.RuneError) {
		return Value{}, &smartcred.ConfigError{Option: "field", Problem: fmt.Sprintf("the secret's value has no client secret as its member %q: a string that is not empty", field)}
	}
	return v, nil
}

// object reads the value; it fails where it is none.
func (v Value) object() (*strictjson.Obj, error) {
	o, err := strictjson.Object(v.whole.Reveal())
	switch {
	case err != nil || o.BOM:
		return nil, &smartcred.ConfigError{Option: "field", Problem: "the secret's value is no JSON object"}
	case len(o.Duplicates) > 0:
		return nil, &smartcred.ConfigError{Option: "field", Problem: "the secret's value is a JSON object that has a member twice"}
	}
	return o, nil
}

// Secret returns the client secret.
func (v Value) Secret() secretsource.Secret {
	if v.field == "" {
		return v.whole
	}
	secret, _ := v.Member(v.field)
	return secretsource.New([]byte(secret), v.whole.Version)
}

// Member returns a member of the JSON object that is a string. Without
// [Options].Field there are none.
func (v Value) Member(name string) (string, bool) {
	if v.field == "" || v.whole.IsZero() {
		return "", false
	}
	o, err := v.object()
	if err != nil {
		return "", false
	}
	text, state := o.String(name)
	return text, state == strictjson.Present
}

// number returns a member that is a whole number; 0 if there is none.
func (v Value) number(name string) int64 {
	if v.field == "" || v.whole.IsZero() {
		return 0
	}
	o, err := v.object()
	if err != nil {
		return 0
	}
	raw, _ := o.Raw(name)
	var n int64
	if json.Unmarshal(raw, &n) != nil {
		return 0
	}
	return n
}

// With returns a Value with another client secret and other members of the JSON
// object; those that are not named stay as they are, and nil takes one away.
// Without [Options].Field there can be no members.
func (v Value) With(secret string, members map[string]any) (Value, error) {
	if v.field == "" {
		if len(members) > 0 {
			return Value{}, &smartcred.ConfigError{Option: "field", Problem: "is missing, without which the value holds the client secret alone and nothing beside it: make the value a JSON object, and name its member with the client secret"}
		}
		return readValue(secret, "", "")
	}
	o, err := v.object()
	if err != nil {
		return Value{}, err
	}
	members = maps.Clone(members)
	if members == nil {
		members = map[string]any{}
	}
	members[v.field] = secret
	names := slices.Clone(o.Names)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for _, name := range names {
		raw, _ := o.Raw(name)
		if member, changed := members[name]; changed {
			if member == nil {
				continue
			}
			if raw, err = encode(member); err != nil {
				return Value{}, &smartcred.ConfigError{Option: "field", Problem: fmt.Sprintf("member %q is no JSON", name)}
			}
		}
		quoted, err := encode(name)
		if err != nil {
			return Value{}, &smartcred.ConfigError{Option: "field", Problem: "a member's name is no JSON"}
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(quoted)
		b.WriteByte(':')
		b.Write(raw)
	}
	b.WriteByte('}')
	return readValue(b.String(), "", v.field)
}

// encode is json.Marshal that leaves <, > and & as they are.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Format implements [fmt.Formatter]: [redacted], whatever the verb.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], for JSON, XML and YAML too.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
