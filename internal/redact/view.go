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

// An escape is a kind of escape sequences.
type escape struct {
	starts string // the bytes that one can start with
	// read reads the sequence that b starts with. It returns how long that is, 0
	// if it is none, and dst with what it stands for appended.
	read func(dst, b []byte) (out []byte, length int)
}

// unescape returns the view with the escape sequences of each kind replaced,
// once: what they stand for is not read again. The result is kept in memory,
// which the next use of that memory overwrites; it is empty if there is none.
func (v view) unescape(memory *view, kinds ...escape) view {
	var starts [256]bool
	present := false
	for _, kind := range kinds {
		for _, c := range []byte(kind.starts) {
			starts[c] = true
			present = present || bytes.IndexByte(v.b, c) >= 0
		}
	}
	if !present {
		return view{}
	}
	out := memory.empty(len(v.b))
next:
	for i := 0; i < len(v.b); {
		if starts[v.b[i]] {
			for _, kind := range kinds {
				var n int
				if out.b, n = kind.read(out.b, v.b[i:]); n > 0 {
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
	*memory = out
	return out
}

// base64 returns what the runs of base64 characters in the view stand for, each
// read from its offset-th character on. A zero byte is between two runs. Runs
// that are too short for a needle are left out. The result is kept in memory as
// that of unescape is.
func (v view) base64(memory *view, offset, shortest int) view {
	out := memory.empty(0)
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
		out.b = append(out.b, 0)
		out.place(v, start, start+1)
		for j := start + offset; j < i; j += 4 {
			out.quantum(v, j, min(j+4, i))
		}
	}
	*memory = out
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

// empty returns an empty view in the memory of v, with room for size bytes.
func (v view) empty(size int) view {
	if cap(v.b) < size {
		return view{b: make([]byte, 0, size), from: make([]int32, 0, size), to: make([]int32, 0, size)}
	}
	return view{b: v.b[:0], from: v.from[:0], to: v.to[:0]}
}

// place notes that the bytes last appended stand for v.b[i:j].
func (out *view) place(v view, i, j int) {
	from, to := v.span(i, j)
	for len(out.from) < len(out.b) { // none, one, or the bytes of one character
		out.from = append(out.from, int32(from))
		out.to = append(out.to, int32(to))
	}
}

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

// The kinds of escape sequences. White space counts as
// one: a long value may have been broken over lines.
var (
	percent = escape{"%", readPercent}    // RFC 3986 section 2.1
	plus    = escape{"+", readPlus}       // the space of application/x-www-form-urlencoded
	json    = escape{"\\", readJSON}      // RFC 8259 section 7, \UHHHHHHHH of its relatives, and \xHH for a byte, as Python's bytes and Rust have it
	latin   = escape{"\\", readLatin}     // the same, and \xHH for a character, as JavaScript and Python's ascii have it
	html    = escape{"&", readHTML}       // numeric character references, and names of HTML's own characters
	lines   = escape{" \t\r\n", readLine} // white space stands for nothing
)

func readPercent(dst, b []byte) ([]byte, int) {
	if b[0] != '%' {
		return dst, 0
	}
	c, ok := hexDigits(b[1:], 2)
	if !ok {
		return dst, 0
	}
	return append(dst, byte(c)), 3
}

func readPlus(dst, b []byte) ([]byte, int) {
	if b[0] != '+' {
		return dst, 0
	}
	return append(dst, ' '), 1
}

func readJSON(dst, b []byte) ([]byte, int) {
	if b[0] != '\\' || len(b) < 2 {
		return dst, 0
	}
	switch c := b[1]; c {
	case 'n', 'r', 't', 'b', 'f':
		return append(dst, "\n\r\t\b\f"[bytes.IndexByte([]byte("nrtbf"), c)]), 2
	case 'x':
		if c, ok := hexDigits(b[2:], 2); ok {
			return append(dst, byte(c)), 4
		}
	case 'U':
		if c, ok := hexDigits(b[2:], 8); ok {
			return utf8.AppendRune(dst, c), 10
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

func readLatin(dst, b []byte) ([]byte, int) {
	if len(b) >= 2 && b[0] == '\\' && b[1] == 'x' {
		if c, ok := hexDigits(b[2:], 2); ok {
			return utf8.AppendRune(dst, c), 4
		}
	}
	return readJSON(dst, b)
}

func readHTML(dst, b []byte) ([]byte, int) {
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

func readLine(dst, b []byte) ([]byte, int) {
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
