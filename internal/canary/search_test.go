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
//
// Of each form it knows the prefix characters at every few places, so that any
// run that betrays the value has one of these; what stands around them decides.
type finder struct {
	forms  []form
	places []place
	begins map[uint64]int // the first of places, by its characters
	// seen has a bit set for the hash of each key of begins. It keeps the search
	// of innocent text away from the map.
	seen []uint64
}

// A place is where characters stand in a form.
type place struct {
	form, at int
	next     int // another place with these characters; negative: none
}

const (
	prefix   = 8  // characters of a place
	seenBits = 22 // of their hash
)

func newFinder() *finder {
	return &finder{begins: map[uint64]int{}, seen: make([]uint64, 1<<seenBits/64)}
}

func characters(text string) uint64 { return binary.LittleEndian.Uint64([]byte(text[:prefix])) }

// bit returns where in seen the hash of characters stands.
func bit(characters uint64) (word uint64, mask uint64) {
	at := characters * 0x9e3779b97f4a7c15 >> (64 - seenBits)
	return at / 64, 1 << (at % 64)
}

// add makes f look for value.
func (f *finder) add(name string, value []byte) {
	if len(value) < run {
		panic("canary: " + name + " is too short to be looked for")
	}
	for _, form := range forms(value) {
		form.name = name + ", " + form.name
		form.text = lower(form.text)
		form.length = min(form.length, len(form.text))
		if form.length < prefix {
			continue
		}
		f.forms = append(f.forms, form)
		for at := 0; at+prefix <= len(form.text); at += form.length - prefix + 1 {
			key := characters(form.text[at:])
			next, ok := f.begins[key]
			if !ok {
				next = -1
			}
			f.begins[key] = len(f.places)
			f.places = append(f.places, place{len(f.forms) - 1, at, next})
			word, mask := bit(key)
			f.seen[word] |= mask
		}
	}
}

// find returns in words what text holds; empty if nothing.
func (f *finder) find(text string) string {
	text = lower(text)
	for i := range max(len(text)-prefix+1, 0) {
		key := characters(text[i:])
		if word, mask := bit(key); f.seen[word]&mask == 0 {
			continue
		}
		next, ok := f.begins[key]
		if !ok {
			continue
		}
		for ; next >= 0; next = f.places[next].next {
			p := f.places[next]
			form := f.forms[p.form]
			if sameBefore(text[:i], form.text[:p.at])+sameAfter(text[i:], form.text[p.at:]) >= form.length {
				return form.name
			}
		}
	}
	return ""
}

// sameBefore returns how many characters a and b have in common at their ends.
func sameBefore(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// sameAfter returns how many they have in common at their beginnings.
func sameAfter(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
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
	for i := range len(s) - run + 1 {
		if plant := "x" + s[i:i+run] + "x"; f.find(plant) == "" {
			t.Errorf("%q is not found", plant)
		}
	}
	for _, innocent := range []string{"", "before after", s[:run-2], "[redacted]", fmt.Sprint([]byte("another text of some length"))} {
		if what := f.find(innocent); what != "" {
			t.Errorf("%q: found %s", innocent, what)
		}
	}
}
