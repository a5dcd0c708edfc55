package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may be nested, the outermost counted.
const MaxDepth = 100

// The reasons why [Object] refuses a text.
var (
	// ErrSyntax: not one JSON text: empty, cut off, something else, or bytes after it.
	ErrSyntax = errors.New("not a JSON text")
	// ErrEncoding: not UTF-8 (RFC 8259 section 8.1).
	ErrEncoding = errors.New("not UTF-8")
	// ErrDepth: nested deeper than [MaxDepth].
	ErrDepth = errors.New("nested too deep")
	// ErrNotObject: JSON, but not an object.
	ErrNotObject = errors.New("not a JSON object")
)

// A State says what was found where a type was asked for.
type State uint8

// The states of a member.
const (
	Absent    State = iota // no such member
	Null                   // the literal null
	WrongType              // another type than asked for
	Present                // the type asked for
)

// An Obj is a JSON object. It and what it returns alias the text it was read
// from; neither may be modified.
type Obj struct {
	// BOM says that the text began with a byte order mark, which was ignored
	// (RFC 8259 section 8.1).
	BOM bool
	// Names are the member names in order of first appearance.
	Names []string
	// Duplicates are the names that appear more than once, each listed once.
	// Their last value is the one that counts.
	Duplicates []string

	text    []byte
	members map[string]json.RawMessage
}

// Object reads data, which must hold exactly one JSON object.
func Object(data []byte) (*Obj, error) {
	o := &Obj{}
	data, o.BOM = bytes.CutPrefix(data, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(data) {
		return nil, ErrEncoding
	}
	if tooDeep(data) {
		return nil, ErrDepth
	}
	if !json.Valid(data) {
		return nil, ErrSyntax
	}
	o.text = bytes.Trim(data, " \t\r\n")
	if o.text[0] != '{' {
		return nil, ErrNotObject
	}
	o.members = map[string]json.RawMessage{}
	o.read()
	return o, nil
}

// Text returns the object's text, without a byte order mark and outer white space.
func (o *Obj) Text() []byte { return o.text }

// Raw returns a member as it stands in the text.
func (o *Obj) Raw(name string) (json.RawMessage, bool) {
	raw, ok := o.members[name]
	return raw, ok
}

// String returns a member that must be a string.
func (o *Obj) String(name string) (string, State) { return String(o.members[name]) }

// Bool returns a member that must be true or false.
func (o *Obj) Bool(name string) (value bool, state State) {
	switch raw := o.members[name]; Kind(raw) {
	case "absent":
		return false, Absent
	case "null":
		return false, Null
	case "boolean":
		return raw[0] == 't', Present
	}
	return false, WrongType
}

// Strings returns a member that must be an array of strings; non-nil if Present.
func (o *Obj) Strings(name string) ([]string, State) {
	elements, state := o.Array(name)
	if state != Present {
		return nil, state
	}
	out := make([]string, 0, len(elements))
	for _, raw := range elements {
		s, state := String(raw)
		if state != Present {
			return nil, WrongType
		}
		out = append(out, s)
	}
	return out, Present
}

// Array returns the elements of a member that must be an array.
func (o *Obj) Array(name string) ([]json.RawMessage, State) {
	raw := o.members[name]
	switch Kind(raw) {
	case "absent":
		return nil, Absent
	case "null":
		return nil, Null
	case "array":
		var elements []json.RawMessage
		if json.Unmarshal(raw, &elements) == nil {
			return elements, Present
		}
	}
	return nil, WrongType
}

// String returns the string that raw, a valid JSON text or empty, stands for.
func String(raw json.RawMessage) (string, State) {
	switch Kind(raw) {
	case "absent":
		return "", Absent
	case "null":
		return "", Null
	case "string":
		return unquote(raw), Present
	}
	return "", WrongType
}

// Kind names the type of raw, a valid JSON text or empty, for messages: string,
// number, boolean, null, array, object or absent.
func Kind(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "absent"
	}
	switch raw[0] {
	case '"':
		return "string"
	case '{':
		return "object"
	case '[':
		return "array"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// read walks the top level of o.text, which is known to be a valid object.
func (o *Obj) read() {
	t := o.text
	repeated := map[string]bool{} // not a search of Duplicates: a hostile text repeats many names
	for i := skipSpace(t, 1); t[i] != '}'; {
		end := skipString(t, i)
		name := unquote(t[i:end])
		start := skipSpace(t, skipSpace(t, end)+1) // past the colon
		end = skipValue(t, start)
		if _, seen := o.members[name]; !seen {
			o.Names = append(o.Names, name)
		} else if !repeated[name] {
			repeated[name] = true
			o.Duplicates = append(o.Duplicates, name)
		}
		o.members[name] = json.RawMessage(t[start:end:end])
		if i = skipSpace(t, end); t[i] == ',' {
			i = skipSpace(t, i+1)
		}
	}
}

func skipSpace(t []byte, i int) int {
	for t[i] == ' ' || t[i] == '\t' || t[i] == '\r' || t[i] == '\n' {
		i++
	}
	return i
}

// skipString returns the index after the string that starts at i.
func skipString(t []byte, i int) int {
	for i++; t[i] != '"'; i++ {
		if t[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the index after the value that starts at i.
func skipValue(t []byte, i int) int {
	for depth := 0; ; {
		switch t[i] {
		case '"':
			i = skipString(t, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			i++
			continue
		default:
			for !strings.ContainsRune(",:]} \t\r\n", rune(t[i])) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

func unquote(raw []byte) string {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	_ = json.Unmarshal(raw, &s) // raw is a valid JSON string: this can't fail
	return s
}

// tooDeep looks at brackets only, so that it bounds the work on texts that are
// not JSON, too.
func tooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
