package redact

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A view is a reading of a text, with where in the text each byte comes from.
type view struct {
	b []byte
	// b[i] stands for the text's bytes from[i] to to[i]; nil where the view is
	// the text itself.
	from, to []int32
}

// span returns which part of the text b[i:j] stands for; i < j.
func (v view) span(i, j int) (from, to int) {
	if v.from == nil {
		return i, j
	}
	return int(v.from[i]), int(v.to[j-1])
}

// An escape reads the escape sequence that b starts with. It returns how long
// that is, 0 if it is none, and dst with what it stands for appended.
type escape func(dst, b []byte) (out []byte, length int)

// unescape returns the view with the escape sequences of each kind replaced,
// once: what they stand for is not read again.
func (v view) unescape(kinds ...escape) view {
	out := makeView(len(v.b))
next:
	for i := 0; i < len(v.b); {
		if triggers[v.b[i]] {
			for _, kind := range kinds {
				var n int
				if out.b, n = kind(out.b, v.b[i:]); n > 0 {
					out.place(v, i, i+n)
					i += n
					continue next
				}
			}
		}
		out.b = append(out.b, v.b[i])
		out.place(v, i, i+1)
		i++
	}
	return out
}

// base64 returns what the runs of base64 characters in the view stand for, each
// read from its offset-th character on. A zero byte is between two runs. Runs
// that are too short for a needle are left out.
func (v view) base64(offset, shortest int) view {
	var out view
	for i := 0; i < len(v.b); {
		if sextet[v.b[i]] < 0 {
			i++
			continue
		}
		start := i
		for i < len(v.b) && sextet[v.b[i]] >= 0 {
			i++
		}
		if i-start-offset < shortest {
			continue
		}
		if out.b == nil {
			out = makeView((len(v.b)-start)*3/4 + 1)
		}
		out.b = append(out.b, 0)
		out.place(v, start, start+1)
		for j := start + offset; j < i; j += 4 {
			out.quantum(v, j, min(j+4, i))
		}
	}
	return out
}

// quantum appends the bytes of up to four base64 characters, v.b[i:j].
func (out *view) quantum(v view, i, j int) {
	bits := 0
	for k := range 4 {
		bits <<= 6
		if i+k < j {
			bits |= int(sextet[v.b[i+k]])
		}
	}
	for k := range (j - i) * 6 / 8 {
		out.b = append(out.b, byte(bits>>(16-8*k)))
		out.place(v, i+k, i+k+2)
	}
}

func makeView(size int) view {
	return view{b: make([]byte, 0, size), from: make([]int32, 0, size), to: make([]int32, 0, size)}
}

// place notes that the bytes last appended stand for v.b[i:j].
func (out *view) place(v view, i, j int) {
	from, to := v.span(i, j)
	for len(out.from) < len(out.b) {
		out.from = append(out.from, int32(from))
		out.to = append(out.to, int32(to))
	}
}

// triggers are the bytes that an escape sequence can start with.
var triggers = func() (t [256]bool) {
	for _, c := range []byte("%+\\& \t\r\n") {
		t[c] = true
	}
	return t
}()

// sextet is the value of a base64 character of either alphabet; -1 for others.
var sextet = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = int8(i)
	}
	t['-'], t['_'] = t['+'], t['/']
	return t
}()

// percent is RFC 3986 section 2.1.
func percent(dst, b []byte) ([]byte, int) {
	if b[0] != '%' {
		return dst, 0
	}
	c, ok := hexDigits(b[1:], 2)
	if !ok {
		return dst, 0
	}
	return append(dst, byte(c)), 3
}

// plus is the space of application/x-www-form-urlencoded.
func plus(dst, b []byte) ([]byte, int) {
	if b[0] != '+' {
		return dst, 0
	}
	return append(dst, ' '), 1
}

// json is RFC 8259 section 7, and \xHH of its relatives.
func json(dst, b []byte) ([]byte, int) {
	if b[0] != '\\' || len(b) < 2 {
		return dst, 0
	}
	switch c := b[1]; c {
	case 'n', 'r', 't', 'b', 'f':
		return append(dst, "\n\r\t\b\f"[bytes.IndexByte([]byte("nrtbf"), c)]), 2
	case 'x':
		if c, ok := hexDigits(b[2:], 2); ok {
			return utf8.AppendRune(dst, c), 4
		}
	case 'u':
		c, ok := hexDigits(b[2:], 4)
		if !ok {
			return dst, 0
		}
		if utf16.IsSurrogate(c) && bytes.HasPrefix(b[6:], []byte(`\u`)) {
			if low, ok := hexDigits(b[8:], 4); ok {
				if full := utf16.DecodeRune(c, low); full != utf8.RuneError {
					return utf8.AppendRune(dst, full), 12
				}
			}
		}
		return utf8.AppendRune(dst, c), 6
	case '"', '\\', '/', '\'':
		return append(dst, c), 2
	}
	return dst, 0
}

// html is a numeric character reference or one of the names for HTML's own characters.
func html(dst, b []byte) ([]byte, int) {
	const longest = len("&#x0010FFFF;")
	end := bytes.IndexByte(b[:min(len(b), longest)], ';')
	if b[0] != '&' || end < 3 {
		return dst, 0
	}
	name := string(b[1:end])
	if c, ok := htmlNames[name]; ok {
		return append(dst, c), end + 1
	}
	if name[0] != '#' {
		return dst, 0
	}
	digits, base := name[1:], 10
	if digits[0] == 'x' || digits[0] == 'X' {
		digits, base = digits[1:], 16
	}
	c, err := strconv.ParseUint(digits, base, 32)
	if err != nil || c > utf8.MaxRune {
		return dst, 0
	}
	return utf8.AppendRune(dst, rune(c)), end + 1
}

var htmlNames = map[string]byte{"amp": '&', "lt": '<', "gt": '>', "quot": '"', "apos": '\'', "sol": '/', "plus": '+', "equals": '='}

// lines drops white space: a long value may have been broken over lines.
func lines(dst, b []byte) ([]byte, int) {
	if isLineSpace(rune(b[0])) {
		return dst, 1
	}
	return dst, 0
}

func isLineSpace(c rune) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func hexDigits(b []byte, n int) (rune, bool) {
	if len(b) < n {
		return 0, false
	}
	var c rune
	for _, d := range b[:n] {
		switch {
		case '0' <= d && d <= '9':
			c = c<<4 | rune(d-'0')
		case 'a' <= d|0x20 && d|0x20 <= 'f':
			c = c<<4 | rune(d|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return c, true
}
