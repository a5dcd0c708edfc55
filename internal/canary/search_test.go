package canary

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

const run = 12 // bytes in a row that betray a value

// A finder looks for values in every form in which a program may print them.
// Case is not told apart: host names lose it.
type finder struct {
	runs map[int]map[string]string // by length: a run of characters, and what it is in words
	// begins has a bit set for the hash of each run's first characters. It keeps
	// the search of innocent text away from the maps.
	begins []uint64
}

const (
	prefix    = 8  // characters that are hashed
	beginBits = 22 // of the hash
)

func newFinder() *finder {
	return &finder{runs: map[int]map[string]string{}, begins: make([]uint64, 1<<beginBits/64)}
}

// bit returns where in begins the run at the beginning of text stands.
func bit(text string) (word int, mask uint64) {
	at := binary.LittleEndian.Uint64([]byte(text[:prefix])) * 0x9e3779b97f4a7c15 >> (64 - beginBits)
	return int(at / 64), 1 << (at % 64)
}

// add makes f look for value.
func (f *finder) add(name string, value []byte) {
	if len(value) < run {
		panic("canary: " + name + " is too short to be looked for")
	}
	for _, form := range forms(value) {
		text := lower(form.text)
		length := min(form.length, len(text))
		if length < prefix {
			continue
		}
		if f.runs[length] == nil {
			f.runs[length] = map[string]string{}
		}
		what := name + ", " + form.name
		for i := range len(text) - length + 1 {
			f.runs[length][text[i:i+length]] = what
			word, mask := bit(text[i:])
			f.begins[word] |= mask
		}
	}
}

// find returns in words what text holds; empty if nothing.
func (f *finder) find(text string) string {
	text = lower(text)
	for i := range max(len(text)-prefix+1, 0) {
		if word, mask := bit(text[i:]); f.begins[word]&mask == 0 {
			continue
		}
		for length, runs := range f.runs {
			if what, ok := runs[text[i:min(i+length, len(text))]]; ok {
				return what
			}
		}
	}
	return ""
}

// lower is strings.ToLower of ASCII alone: values may be any bytes.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// A form is a spelling of a value, of which length characters in a row stand for
// run bytes of it or more.
type form struct {
	name, text string
	length     int
}

func forms(value []byte) []form {
	s := string(value)
	reversed := slices.Clone(value)
	slices.Reverse(reversed)
	quoted, _ := json.Marshal(s)
	decimal := strings.Trim(fmt.Sprint(value), "[]")
	number := new(big.Int).SetBytes(value)
	if !utf8.Valid(value) { // JSON has the same character for all that it can't say
		quoted = nil
	}
	out := []form{
		{"raw", s, run},
		{"reversed", string(reversed), run},
		{"form-encoded", url.QueryEscape(s), 3 * run},
		{"percent-encoded", url.PathEscape(s), 3 * run},
		{"all percent", allPercent(s), 3 * run},
		{"quoted", strings.Trim(strconv.Quote(s), `"`), 2 * run},
		{"quoted as ASCII", strings.Trim(strconv.QuoteToASCII(s), `"`), 2 * run},
		{"JSON", strings.Trim(string(quoted), `"`), 2 * run},
		{"HTML", html.EscapeString(s), 2 * run},
		{"hex", hex.EncodeToString(value), 2 * run},
		{"hex, spaced", fmt.Sprintf("% x", value), 3 * run},
		{"number", number.String(), 3 * run},
		{"list of bytes", decimal, 3 * run},
		{"list of bytes, JSON", strings.ReplaceAll(decimal, " ", ","), 3 * run},
		{"list of bytes, Go", strings.TrimPrefix(fmt.Sprintf("%#v", value), "[]byte{"), 5 * run},
		{"list of words", strings.Trim(fmt.Sprint(number.Bits()), "[]"), 3 * run},
		{"list of words, Go", strings.TrimPrefix(fmt.Sprintf("%#v", number.Bits()), "big.nat"), 3 * run},
	}
	for lead := range 3 {
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			encoded := encoding.EncodeToString(append(make([]byte, lead), value...))
			out = append(out, form{
				fmt.Sprintf("%s after %d bytes", name, lead), encoded[(lead*8+5)/6 : (lead+len(value))*8/6], run * 4 / 3,
			})
		}
	}
	return out
}

func allPercent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

// TestFinderFindsEachForm: a search that finds nothing proves nothing unless it
// can find.
func TestFinderFindsEachForm(t *testing.T) {
	value := []byte("Zq7/+&=%\"\\é Wm3vK9xTb2Rd5Hn8Lc4Yf6")
	f := newFinder()
	f.add("value", value)
	s := string(value)
	number := new(big.Int).SetBytes(value)
	type holder struct{ hidden []byte }
	plants := map[string]string{
		"raw":             s,
		"upper case":      strings.ToUpper(s),
		"a run of it":     s[len(s)-run:],
		"%q":              fmt.Sprintf("%q", value),
		"%+q":             fmt.Sprintf("%+q", value),
		"%x":              fmt.Sprintf("%x", value),
		"%X":              fmt.Sprintf("%X", value),
		"% x":             fmt.Sprintf("% x", value),
		"%v":              fmt.Sprintf("%v", value),
		"%d":              fmt.Sprintf("%d", value),
		"%#v":             fmt.Sprintf("%#v", value),
		"%#v of text":     fmt.Sprintf("%#v", s),
		"in a struct":     fmt.Sprintf("%+v", holder{value}),
		"in a struct, Go": fmt.Sprintf("%#v", &holder{value}),
		"in an error":     fmt.Errorf("x: %w", fmt.Errorf("y %s", value)).Error(),
		"number":          number.String(),
		"number, hex":     fmt.Sprintf("%x", number),
		"words":           fmt.Sprint(number.Bits()),
		"form":            url.QueryEscape(s),
		"path":            url.PathEscape(s),
		"percent":         allPercent(s),
		"HTML":            html.EscapeString(s),
	}
	for lead := range 3 {
		around := append(append([]byte("abc"[:lead]), value...), "more"...)
		plants["base64 after "+strconv.Itoa(lead)] = base64.StdEncoding.EncodeToString(around)
		plants["base64url after "+strconv.Itoa(lead)] = base64.RawURLEncoding.EncodeToString(around)
	}
	reversed := slices.Clone(value)
	slices.Reverse(reversed)
	plants["reversed"] = string(reversed)
	marshalled, err := json.Marshal(map[string]any{"text": s, "bytes": value})
	if err != nil {
		t.Fatal(err)
	}
	plants["JSON"] = string(marshalled)
	for name, plant := range plants {
		if f.find("before "+plant+" after") == "" {
			t.Errorf("%s is not found: %s", name, plant)
		}
	}
	for _, innocent := range []string{"", "before after", s[:run-2], "[redacted]", fmt.Sprint([]byte("another text of some length"))} {
		if what := f.find(innocent); what != "" {
			t.Errorf("%q: found %s", innocent, what)
		}
	}
}
