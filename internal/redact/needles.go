package redact

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/url"
)

const (
	window    = 12 // bytes in a row that betray a long value
	longValue = 16 // bytes from which on a value is long
)

// needles are what a search looks for: each short value as a whole, and every
// window of the long ones.
type needles struct {
	short   [][]byte
	windows map[[window]byte]struct{}
	// filter has a bit set for the hash of each window. It keeps the search of
	// innocent text away from the map.
	filter []uint64
	shift  uint
	// shortestRun is the length of the shortest base64 text that can hold a needle.
	shortestRun int
}

func newNeedles(values [][]byte) *needles {
	n := &needles{windows: map[[window]byte]struct{}{}}
	shortest := window
	for _, v := range values {
		n.add(v)
		if joined := bytes.Join(bytes.FieldsFunc(v, isLineSpace), nil); len(joined) < len(v) {
			n.add(joined) // as it is in a view without white space
		}
		if len(v) < longValue {
			shortest = min(shortest, len(v))
			continue
		}
		// The views undo these encodings. Their text is looked for as well
		// because 12 characters of it may hold less than 12 bytes of the value.
		n.add([]byte(url.QueryEscape(string(v))))
		for lead := range 3 {
			for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				n.add(within(encoding, v, lead))
			}
		}
	}
	n.shortestRun = (shortest*8 + 5) / 6
	bits := uint(10)
	for ; 1<<bits < 16*len(n.windows); bits++ {
	}
	n.shift = 64 - bits
	n.filter = make([]uint64, 1<<(bits-6))
	for w := range n.windows {
		at := hash(w[:]) >> n.shift
		n.filter[at/64] |= 1 << (at % 64)
	}
	return n
}

func (n *needles) add(v []byte) {
	switch {
	case len(v) == 0:
	case len(v) < longValue:
		n.short = append(n.short, v)
	default:
		for i := range len(v) - window + 1 {
			n.windows[[window]byte(v[i:])] = struct{}{}
		}
	}
}

// within returns those characters of the base64 encoding of lead bytes, v and
// more bytes that depend on v alone.
func within(encoding *base64.Encoding, v []byte, lead int) []byte {
	encoded := encoding.AppendEncode(nil, append(make([]byte, lead), v...))
	return encoded[(lead*8+5)/6 : (lead+len(v))*8/6]
}

// search calls found for each needle in b, with where it starts and ends.
func (n *needles) search(b []byte, found func(i, j int)) {
	if len(n.windows) > 0 {
		for i := range len(b) - window + 1 {
			at := hash(b[i:]) >> n.shift
			if n.filter[at/64]&(1<<(at%64)) == 0 {
				continue
			}
			if _, ok := n.windows[[window]byte(b[i:])]; ok {
				found(i, i+window)
			}
		}
	}
	for _, v := range n.short {
		for i := 0; ; i++ {
			next := bytes.Index(b[i:], v)
			if next < 0 {
				break
			}
			i += next
			found(i, i+len(v))
		}
	}
}

// hash mixes the first 12 bytes of b; its upper bits are the best.
func hash(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b) ^ uint64(binary.LittleEndian.Uint32(b[8:]))*0x9e3779b97f4a7c15
	x ^= x >> 32
	return x * 0xd6e8feb86659fd93
}
