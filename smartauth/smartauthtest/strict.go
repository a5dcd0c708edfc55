package smartauthtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// decodeObject reads one JSON object and refuses what decoders read
// differently: members given twice, trailing text, invalid UTF-8.
func decodeObject(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("invalid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	members := make(map[string]json.RawMessage)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, errors.New("malformed JSON")
		}
		key, _ := name.(string)
		if _, twice := members[key]; twice {
			return nil, errors.New("a member is given twice")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("malformed JSON")
		}
		members[key] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("malformed JSON")
	}
	if len(bytes.TrimSpace(raw[dec.InputOffset():])) > 0 {
		return nil, errors.New("text after the JSON object")
	}
	return members, nil
}

// decodeSegment decodes one segment of a compact JWS (RFC 7515 section 2): base64url
// without padding, unused bits zero, no line breaks.
func decodeSegment(segment string) ([]byte, error) {
	if strings.ContainsAny(segment, "\r\n") {
		return nil, errors.New("line break in base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(segment)
}

// parseForm reads form parameters by RFC 6749 section 3.2: none twice, and one
// without a value counts as left out.
func parseForm(encoded string) (url.Values, error) {
	if !utf8.ValidString(encoded) {
		return nil, errors.New("the parameters are not UTF-8")
	}
	values, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, errors.New("the parameters are malformed")
	}
	for name, list := range values {
		if len(list) > 1 {
			return values, fmt.Errorf("parameter %s is given twice", name)
		}
		if list[0] == "" {
			delete(values, name)
		}
	}
	return values, nil
}

func checkFormType(h http.Header) error {
	types := h.Values("Content-Type")
	if len(types) != 1 {
		return errors.New("there must be one Content-Type")
	}
	mediaType, params, err := mime.ParseMediaType(types[0])
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return errors.New("the Content-Type is not application/x-www-form-urlencoded")
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return errors.New("the Content-Type has a parameter other than charset=utf-8")
		}
	}
	return nil
}

// formDecode undoes form encoding and refuses text that was never encoded:
// anything but unreserved characters, + and %XX. Encoders differ about * and ~,
// so both are taken raw.
func formDecode(s string) (string, error) {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~*+%", c) >= 0:
		default:
			return "", errors.New("not form-encoded")
		}
	}
	return url.QueryUnescape(s)
}

// descriptive keeps the characters that RFC 6749 allows in error_description.
func descriptive(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7E || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
