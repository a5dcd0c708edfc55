package pkcs11

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/smartcred/smartcred"
)

const scheme = "pkcs11"

var (
	pathAttributes  = []string{"token", "serial", "manufacturer", "model", "slot-id", "object", "id", "type"}
	queryAttributes = []string{"module-path", "pin-source", "next", "previous", "pin-count-low"}
	keyAttributes   = []string{"object", "id"}
	tokenAttributes = []string{"token", "serial", "manufacturer", "model"} // which a token may have none of
)

// What RFC 7512 section 2.3 leaves unencoded in values, beside letters and
// digits. In a query it has no semicolon; next and previous have.
const (
	pathCharacters  = "-._~:[]@!$'()*+,=&"
	queryCharacters = "-._~:[]@!$'()*+,=/?|;"
)

const pinValue = "pin-value"

var errPINValue = &smartcred.ConfigError{Option: pinValue, Problem: "a PIN is a secret, and no secret stands in a configuration: name its source with pin-source"}

// An attribute is one of a URI's, with its value decoded.
type attribute struct{ name, value string }

// attributes writes those that have a value as RFC 7512 does.
func attributes(list ...attribute) string {
	var parts []string
	for _, a := range list {
		if a.value != "" {
			parts = append(parts, a.name+"="+encode(a.value))
		}
	}
	return strings.Join(parts, ";")
}

// encode percent-encodes what is not unreserved (RFC 3986 section 2.3).
func encode(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; alphanumeric(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// parseURI returns the options that a pkcs11 URI (RFC 7512) stands for, and its
// pin-source.
func parseURI(u *url.URL) (o Options, pinSource string, err error) {
	switch {
	case u.Host != "" || u.Path != "" || u.User != nil:
		return o, "", &smartcred.ConfigError{Problem: "has no slashes: it is pkcs11:token=…;object=…?module-path=… (RFC 7512)"}
	case u.Fragment != "":
		return o, "", &smartcred.ConfigError{Problem: "a key has no fields: # belongs to secrets' URIs, and in a value it is written %23"}
	}
	path, err := parseAttributes(u.Opaque, ";", pathCharacters, pathAttributes)
	if err != nil {
		return o, "", err
	}
	query, err := parseAttributes(u.RawQuery, "&", queryCharacters, queryAttributes)
	if err != nil {
		return o, "", err
	}
	for _, a := range slices.Concat(path, query) {
		if a.value == "" {
			o.Token.empty = append(o.Token.empty, a.name)
			continue
		}
		switch a.name {
		case "token":
			o.Token.Label = a.value
		case "serial":
			o.Token.Serial = a.value
		case "manufacturer":
			o.Token.Manufacturer = a.value
		case "model":
			o.Token.Model = a.value
		case "slot-id":
			var slot uint64
			if slot, err = strconv.ParseUint(a.value, 10, strconv.IntSize); err != nil || !alphanumeric(a.value[0]) {
				return o, "", &smartcred.ConfigError{Option: a.name, Problem: "is not a decimal number"}
			}
			number := uint(slot)
			o.Token.Slot = &number
		case "object":
			o.Key.Label = a.value
		case "id":
			o.Key.ID = []byte(a.value)
		case "type":
			if a.value != "private" {
				return o, "", &smartcred.ConfigError{Option: a.name, Problem: "a signer is a private key: type=private, or leave it out"}
			}
		case "module-path":
			o.Module = a.value
		case "pin-source":
			pinSource = a.value
		case "next":
			o.Next, err = parseSelector(a)
		case "previous":
			o.Previous, err = parseSelector(a)
		case "pin-count-low":
			if a.value != "try" {
				return o, "", &smartcred.ConfigError{Option: a.name, Problem: `has the value "try" or is left out`}
			}
			o.TryLowPIN = true
		}
		if err != nil {
			return o, "", err
		}
	}
	if strings.HasPrefix(pinSource, "|") {
		return o, "", &smartcred.ConfigError{Option: "pin-source", Problem: "no program is run for a PIN: name a secret source"}
	}
	return o, pinSource, nil
}

// parseSelector reads the value of next and previous: attributes of a key, whose
// values may be encoded once more, or a label alone.
func parseSelector(a attribute) (k KeySelector, err error) {
	if !strings.Contains(a.value, "=") {
		return KeySelector{Label: a.value}, nil
	}
	for part := range strings.SplitSeq(a.value, ";") {
		name, value, _ := strings.Cut(part, "=")
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		switch {
		case !slices.Contains(keyAttributes, name):
			return k, &smartcred.ConfigError{Option: a.name, Problem: "unknown attribute" + quoted(name) + ": known are " + strings.Join(keyAttributes, ", ")}
		case value == "":
			return k, &smartcred.ConfigError{Option: a.name, Problem: name + " is empty"}
		case name == "object" && k.Label == "":
			k.Label = value
		case name == "id" && k.ID == nil:
			k.ID = []byte(value)
		default:
			return k, &smartcred.ConfigError{Option: a.name, Problem: name + " is given twice"}
		}
	}
	return k, nil
}

// parseAttributes splits text and decodes the values: percent-encoding only, a
// plus sign stands for itself. Errors hold no value.
func parseAttributes(text, separator, characters string, known []string) ([]attribute, error) {
	if text == "" {
		return nil, nil
	}
	var list []attribute
	for part := range strings.SplitSeq(text, separator) {
		name, raw, found := strings.Cut(part, "=")
		switch {
		case name == pinValue:
			return nil, errPINValue
		case name == "module-name":
			return nil, &smartcred.ConfigError{Option: name, Problem: "a library is not searched for: give its absolute path with module-path"}
		case !slices.Contains(known, name):
			return nil, &smartcred.ConfigError{Problem: unknownAttribute(name, known)}
		case !found || raw == "" && !slices.Contains(tokenAttributes, name):
			return nil, &smartcred.ConfigError{Option: name, Problem: "has no value: leave it out"}
		case slices.ContainsFunc(list, func(a attribute) bool { return a.name == name }):
			return nil, &smartcred.ConfigError{Option: name, Problem: "given twice"}
		}
		value, err := url.PathUnescape(raw)
		if err != nil || strings.IndexFunc(raw, func(r rune) bool {
			return r > 0x7f || r != '%' && !alphanumeric(byte(r)) && !strings.ContainsRune(characters, r)
		}) >= 0 {
			return nil, &smartcred.ConfigError{Option: name, Problem: "special characters are written percent-encoded"}
		}
		if strings.Contains(value, pinValue+"=") { // behind the other separator it is part of a value, which errors and events show
			return nil, errPINValue
		}
		list = append(list, attribute{name, value})
	}
	return list, nil
}

// unknownAttribute also says where an attribute that exists belongs.
func unknownAttribute(name string, known []string) string {
	problem := "unknown attribute" + quoted(name) + ": "
	switch {
	case slices.Contains(pathAttributes, name):
		problem = name + " stands before the question mark, separated by semicolons; after it: "
	case slices.Contains(queryAttributes, name):
		problem = name + " stands after the question mark, separated by ampersands; before it: "
	default:
		problem += "known are "
	}
	return problem + strings.Join(known, ", ")
}

// quoted returns name in quotes, or nothing where it does not look like an
// attribute: it may be part of a secret.
func quoted(name string) string {
	if name == "" || len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return ""
	}
	return ` "` + name + `"`
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
