package wire

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/smartcred/smartcred/internal/strictjson"
)

// An Answer is a line that the program wrote.
type Answer struct {
	ID    uint64
	Error *Failure // the answer, if it is one
	obj   *strictjson.Obj
}

// ParseAnswer reads what all answers have. Its errors, as all here, hold no byte
// of the text.
func ParseAnswer(text []byte) (*Answer, error) {
	o, err := strictjson.Object(text)
	switch {
	case err != nil:
		return nil, err
	case o.BOM:
		return nil, violation("a byte order mark")
	case len(o.Duplicates) > 0:
		return nil, violation("a member twice")
	}
	a := &Answer{obj: o}
	raw, _ := o.Raw("id")
	if a.ID, err = strconv.ParseUint(string(raw), 10, 53); err != nil {
		return nil, violation("no id, or one that is no integer of 0 to 2⁵³−1")
	}
	if raw, ok := o.Raw("error"); ok {
		if a.Error, err = parseFailure(raw); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// A HelloAnswer is what a program says of itself.
type HelloAnswer struct {
	Protocol int
	Mode     string
	Roles    []string
}

// Hello reads the answer to a hello. The version is not judged.
func (a *Answer) Hello() (h HelloAnswer, err error) {
	if h.Protocol, err = a.integer("protocol", 1<<31-1); err != nil {
		return h, err
	}
	if h.Protocol != Version {
		return h, nil // another version may say the rest otherwise
	}
	if h.Mode, err = a.text("mode", MaxName); err != nil {
		return h, err
	}
	if h.Mode != OneShot && h.Mode != LongLived {
		return h, violation("a mode that is neither one-shot nor long-lived")
	}
	roles, state := a.obj.Strings("roles")
	if state != strictjson.Present || len(roles) == 0 || len(roles) > 16 {
		return h, violation("no roles: an array with signer, source or both")
	}
	for _, role := range roles { // others are of later versions
		if (role == RoleSigner || role == RoleSource) && !slices.Contains(h.Roles, role) {
			h.Roles = append(h.Roles, role)
		}
	}
	return h, nil
}

// A SecretAnswer is the answer to a lookup.
type SecretAnswer struct {
	Value            []byte
	Version          string // empty: none
	Created, Expires time.Time
}

// Secret reads the answer to a lookup.
func (a *Answer) Secret() (s SecretAnswer, err error) {
	plain, state := a.obj.String("secret")
	encoded, encodedState := a.obj.String("secret_base64")
	switch {
	case state == strictjson.Present && encodedState == strictjson.Absent:
		// Half a surrogate pair is read as U+FFFD: another value than was meant.
		if s.Value = []byte(plain); slices.Contains([]rune(plain), utf8.RuneError) {
			return s, violation("a secret that is no Unicode text: secret_base64 takes bytes")
		}
	case encodedState == strictjson.Present && state == strictjson.Absent:
		if s.Value, err = decode(encoded); err != nil {
			return s, violation("a secret_base64 that is not base64 (RFC 4648 section 4)")
		}
	default:
		return s, violation("neither secret nor secret_base64, or both, or one that is no string")
	}
	if len(s.Value) == 0 || len(s.Value) > MaxSecret {
		return s, violation("a secret that is empty or longer than 64 KiB")
	}
	if s.Version, err = a.optionalText("version", MaxName); err != nil {
		return s, err
	}
	if s.Created, err = a.time("created"); err != nil {
		return s, err
	}
	s.Expires, err = a.time("expires")
	return s, err
}

// Signature reads the answer to a sign. der reports that it is ASN.1 DER, else it
// is in JWS form.
func (a *Answer) Signature() (signature []byte, der bool, err error) {
	raw, state := a.obj.String("signature")
	encoded, derState := a.obj.String("signature_der")
	switch {
	case state == strictjson.Present && derState == strictjson.Absent:
	case derState == strictjson.Present && state == strictjson.Absent:
		raw, der = encoded, true
	default:
		return nil, false, violation("neither signature nor signature_der, or both, or one that is no string")
	}
	if signature, err = decode(raw); err != nil || len(signature) > MaxSignature {
		return nil, false, violation("a signature that is not base64 (RFC 4648 section 4), or is too long")
	}
	return signature, der, nil
}

// text returns a string that must be there: a name, printable, not too long.
func (a *Answer) text(member string, most int) (string, error) {
	s, err := a.optionalText(member, most)
	if err == nil && s == "" {
		err = violation("no " + member)
	}
	return s, err
}

func (a *Answer) optionalText(member string, most int) (string, error) {
	s, state := a.obj.String(member)
	switch {
	case state == strictjson.Absent:
		return "", nil
	case state != strictjson.Present:
		return "", violation("a " + member + " that is no string")
	case len(s) > most:
		return "", violation(fmt.Sprintf("a %s of more than %d bytes", member, most))
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return "", violation("a " + member + " with characters that do not print")
		}
	}
	return s, nil
}

// time returns an RFC 3339 time; zero where there is none.
func (a *Answer) time(member string) (time.Time, error) {
	s, state := a.obj.String(member)
	if state == strictjson.Absent {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if state != strictjson.Present || err != nil {
		return time.Time{}, violation("a " + member + " that is no RFC 3339 time")
	}
	return t, nil
}

func (a *Answer) integer(member string, most uint64) (int, error) {
	raw, _ := a.obj.Raw(member)
	n, err := strconv.ParseUint(string(raw), 10, 53)
	if err != nil || n > most {
		return 0, violation("no " + member + ", or one that is no integer")
	}
	return int(n), nil
}

// decode reads strict base64: padded, no line breaks, no bits left over.
func decode(s string) ([]byte, error) {
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' { // Strict lets them pass
			return nil, base64.CorruptInputError(i)
		}
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// violation is an error in what the program wrote.
func violation(has string) error { return fmt.Errorf("its answer has %s", has) }

// SecretMembers are the members of a secret's answer.
type SecretMembers struct {
	Secret       string     `json:"secret,omitempty"`
	SecretBase64 []byte     `json:"secret_base64,omitempty"`
	Version      string     `json:"version,omitempty"`
	Created      *time.Time `json:"created,omitempty"`
	Expires      *time.Time `json:"expires,omitempty"`
}

// AnswerLine returns an answer as a line of the protocol. members is a map or
// struct that is not empty.
func AnswerLine(id uint64, members any) ([]byte, error) {
	rest, err := line(members)
	if err != nil {
		return nil, err
	}
	begin := append(strconv.AppendUint([]byte(`{"id":`), id, 10), ',')
	return append(begin, rest[1:]...), nil
}
