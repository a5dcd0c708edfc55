package redact

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// Marker stands in the place of what was found.
const Marker = "[redacted]"

// A Redactor knows the values to look for. It prints as [redacted], also inside
// unexported fields. A nil Redactor looks for nothing. A Redactor is safe for
// concurrent use.
type Redactor struct {
	needles func() *needles
}

// New returns a Redactor of copies of values; empty ones are passed over. The
// work of preparing them is done at the first [Redactor.Clean].
func New(values ...[]byte) *Redactor {
	var kept [][]byte
	for _, v := range values {
		if len(v) > 0 {
			kept = append(kept, bytes.Clone(v))
		}
	}
	if len(kept) == 0 {
		return &Redactor{}
	}
	return &Redactor{needles: sync.OnceValue(func() *needles { return newNeedles(kept) })}
}

// Clean returns s with each credential replaced by [Marker].
func (r *Redactor) Clean(s string) string {
	if r == nil || r.needles == nil || s == "" {
		return s
	}
	h := hunt{needles: r.needles(), found: make([]bool, len(s)), seen: map[uint64]bool{}}
	h.run([]byte(s))
	if !h.any {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		start, hidden := i, h.found[i]
		for i < len(s) && h.found[i] == hidden {
			i++
		}
		if hidden {
			b.WriteString(Marker)
		} else {
			b.WriteString(s[start:i])
		}
	}
	return b.String()
}

// Format implements [fmt.Formatter]: [redacted], whatever the verb.
func (r *Redactor) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Marker) }

// LogValue implements [slog.LogValuer].
func (r *Redactor) LogValue() slog.Value { return slog.StringValue(Marker) }

// MarshalText implements [encoding.TextMarshaler].
func (r *Redactor) MarshalText() ([]byte, error) { return []byte(Marker), nil }

// Text returns s, from which credentials have been removed by [Redactor.Clean],
// for an error or a log: only the characters of RFC 6749 appendix A.7 and A.8,
// %x20-21 / %x23-5B / %x5D-7E, and at most max bytes. Every other character is
// replaced by one, never dropped, so that nothing that was apart is joined. A
// [Marker] is cut as a whole.
func Text(s string, max int) string {
	out := make([]byte, 0, min(len(s), max))
	for _, c := range s {
		if len(out) == max {
			if i := bytes.LastIndexByte(out, Marker[0]); i >= 0 && strings.HasPrefix(Marker, string(out[i:])) && string(out[i:]) != Marker {
				out = out[:i]
			}
			break
		}
		out = append(out, printable(c))
	}
	return string(out)
}

func printable(c rune) byte {
	switch {
	case c == '"':
		return '\''
	case c >= 0x20 && c <= 0x7e && c != '\\':
		return byte(c)
	case c == '\t' || c == '\r' || c == '\n':
		return ' '
	}
	return '?'
}

// A hunt is one search of one text.
type hunt struct {
	*needles
	found []bool // by byte of the text
	any   bool
	seen  map[uint64]bool // views looked at: many texts have little to unescape

	once, outer, inner, innermost view // memory of the views
}

var seed = maphash.MakeSeed()

// run looks at the text in every reading under which a credential may stand in it.
func (h *hunt) run(text []byte) {
	raw := view{b: text}
	h.lookAround(raw)
	h.unescape(raw, json)
	if bytes.Contains(text, []byte(`\x`)) {
		h.unescape(raw, latin)
	}
}

// unescape looks at raw with its escapes undone, \xHH as json has it.
func (h *hunt) unescape(raw view, json escape) {
	for _, kinds := range [][]escape{
		{percent}, {percent, plus}, {json}, {html}, // one by one: what looks like another kind may be the value's own
		{percent, plus, json, html}, {lines},
	} {
		h.lookAround(raw.unescape(&h.outer, kinds...))
	}
	once := raw.unescape(&h.once, percent, json, html)
	h.lookAround(once)
	for _, kinds := range [][]escape{{percent, json, html}, {percent, plus, json, html}, {lines}} {
		h.lookAround(once.unescape(&h.outer, kinds...))
	}
}

// lookAround looks at v and at what was base64-encoded in it; Basic's id and
// secret are form-encoded first.
func (h *hunt) lookAround(v view) {
	if !h.look(v) {
		return
	}
	for offset := range 4 {
		if decoded := v.base64(&h.inner, offset, h.shortestRun); h.look(decoded) {
			h.look(decoded.unescape(&h.innermost, percent))
			h.look(decoded.unescape(&h.innermost, percent, plus))
		}
	}
}

// look marks what it finds in v. It reports false if v is empty or was seen before.
func (h *hunt) look(v view) bool {
	sum := maphash.Bytes(seed, v.b)
	if len(v.b) == 0 || h.seen[sum] {
		return false
	}
	h.seen[sum] = true
	marked := 0
	h.needles.search(v.b, func(i, j int) {
		from, to := v.span(i, j)
		for k := max(from, marked); k < to; k++ {
			h.found[k] = true
		}
		marked, h.any = max(marked, to), true
	})
	return true
}
