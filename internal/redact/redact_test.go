package redact_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/internal/redact"
)

func escapeEach(format string) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, format, s[i])
		}
		return b.String()
	}
}

func jsonEscape(s string) string {
	out, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(out[1 : len(out)-1])
}

func mixedPercent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i%3 == 2 && s[i] != '%' {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, []string{"%%%02x", "%%%02X", "%%%02x"}[i%3], s[i])
		}
	}
	return b.String()
}

func base64At(encoding *base64.Encoding, before, after string) func(string) string {
	return func(s string) string { return encoding.EncodeToString([]byte(before + s + after)) }
}

// encodings are the forms in which a value may come back. Each applies to values
// of printable ASCII.
var encodings = map[string]func(string) string{
	"raw":                       func(s string) string { return s },
	"form":                      url.QueryEscape,
	"path":                      url.PathEscape,
	"percent, each upper":       escapeEach("%%%02X"),
	"percent, each lower":       escapeEach("%%%02x"),
	"percent, twice":            func(s string) string { return url.QueryEscape(escapeEach("%%%02x")(s)) },
	"form, twice":               func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"JSON":                      jsonEscape,
	"JSON, each":                escapeEach(`\u%04x`),
	"JSON, twice":               func(s string) string { return jsonEscape(jsonEscape(s)) },
	"JSON with slashes":         func(s string) string { return strings.ReplaceAll(jsonEscape(s), "/", `\/`) },
	"HTML":                      html.EscapeString,
	"HTML, each":                escapeEach("&#%d;"),
	"HTML, each in hex":         escapeEach("&#x%X;"),
	"form in JSON":              func(s string) string { return jsonEscape(url.QueryEscape(s)) },
	"JSON in HTML":              func(s string) string { return html.EscapeString(jsonEscape(s)) },
	"base64":                    base64At(base64.StdEncoding, "", ""),
	"base64 raw":                base64At(base64.RawStdEncoding, "", ""),
	"base64url":                 base64At(base64.URLEncoding, "", ""),
	"base64url raw":             base64At(base64.RawURLEncoding, "", ""),
	"base64 at 1":               base64At(base64.StdEncoding, "i", ""),
	"base64 at 2":               base64At(base64.StdEncoding, "id", ""),
	"base64 inside at 0":        base64At(base64.StdEncoding, "ab:", "xy"),
	"base64 inside at 1":        base64At(base64.RawURLEncoding, "abc:", "x"),
	"base64 inside at 2":        base64At(base64.URLEncoding, "abcd:", "xyz"),
	"Basic":                     func(s string) string { return base64At(base64.StdEncoding, "id:", "")(url.QueryEscape(s)) },
	"Basic over-encoded":        func(s string) string { return base64At(base64.StdEncoding, "id:", "")(escapeEach("%%%02x")(s)) },
	"Basic in a form":           func(s string) string { return url.QueryEscape(base64At(base64.StdEncoding, "id:", "")(s)) },
	"base64 after alphabet":     func(s string) string { return "x/abc" + base64At(base64.StdEncoding, "", "")(s) },
	"base64 broken over lines":  func(s string) string { return inLines(base64At(base64.StdEncoding, "", "")(s), "\r\n") },
	"base64 in lines, as JSON":  func(s string) string { return inLines(base64At(base64.StdEncoding, "", "")(s), `\n`) },
	"percent, some, mixed case": mixedPercent,
}

func inLines(s, newline string) string {
	var b strings.Builder
	for len(s) > 7 {
		b.WriteString(s[:7] + newline)
		s = s[7:]
	}
	return b.String() + s
}

var values = map[string]string{
	"short":                  "s3cr!t&Q",
	"fifteen":                "abcdefghij#<+/%",
	"sixteen":                "Aa1!Bb2@Cc3#Dd4$",
	"random":                 "kX9vQ2mZr7TtY4wLp0sNbEc6HfUjGaDi",
	"everything":             " !\"#$%&'()*+,-./0123:;<=>?@ABC[\\]^_`abc{|}~",
	"looks percent-encoded":  "abc%41%42%2Fdef%25ghijkl",
	"looks JSON-escaped":     `abc\u0041\n\\def\/ghijkl`,
	"looks HTML-escaped":     "abc&amp;&#65;&lt;def;ghijkl",
	"spaces":                 "correct horse battery staple",
	"assertion":              "eyJhbGciOiJFUzM4NCIsImtpZCI6IjEiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJhIiwic3ViIjoiYSIsImF1ZCI6Imh0dHBzOi8vYSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU",
	"the same byte":          "zzzzzzzzzzzzzzzzzzzz",
	"longer than any window": strings.Repeat("0123456789abcdef-_.~", 50),
}

func TestCleanFindsEveryEncoding(t *testing.T) {
	for valueName, value := range values {
		r := redact.New([]byte(value), []byte("another value altogether"))
		for name, encode := range encodings {
			t.Run(valueName+"/"+name, func(t *testing.T) {
				echo := encode(value)
				got := r.Clean("before: " + echo + " :after")
				if !strings.HasPrefix(got, "before: ") || !strings.HasSuffix(got, " :after") {
					t.Errorf("Clean took too much: %q", got)
				}
				if !strings.Contains(got, redact.Marker) || leaks(got, echo, value) {
					t.Errorf("Clean(%q) = %q", echo, got)
				}
			})
		}
	}
}

// leaks reports whether got shows the value, a window of a long one, or as much
// of its echo.
func leaks(got, echo, value string) bool {
	got = strings.ReplaceAll(got, redact.Marker, "\x00")
	if len(value) < 16 {
		return strings.Contains(got, value) || strings.Contains(got, echo)
	}
	for i := range len(value) - 11 {
		if strings.Contains(got, value[i:i+12]) {
			return true
		}
	}
	// What an echo has beside the value (id: of Basic) may stay.
	return strings.Contains(got, echo) || strings.Contains(got, echo[len(echo)/4:len(echo)*3/4])
}

func TestCleanFindsTruncatedEchoes(t *testing.T) {
	const value = "kX9vQ2mZr7TtY4wL+0sN/Ec6HfUjGaDi"
	r := redact.New([]byte(value))
	for name, encode := range encodings {
		t.Run(name, func(t *testing.T) {
			for start := range len(value) - 12 {
				for _, length := range []int{12, 13, 17} {
					part := value[start:min(start+length, len(value))]
					if got := r.Clean("x " + encode(part) + " y"); !strings.Contains(got, redact.Marker) || leaks(got, encode(part), part) {
						t.Errorf("Clean of %d bytes at %d, %q = %q", length, start, encode(part), got)
					}
				}
			}
		})
	}
}

func TestCleanFindsPartsOfEncodedText(t *testing.T) {
	const value = "kX9vQ2mZr7TtY4wL+0sN/Ec6HfUjGaDi"
	r := redact.New([]byte(value))
	for _, name := range []string{"form", "base64", "base64url", "base64 at 1", "base64 at 2"} {
		echo := strings.TrimRight(encodings[name](value), "=")[3:]
		for i := range len(echo) - 13 {
			part := echo[i : i+12]
			if got := r.Clean("x " + part + " y"); strings.Contains(got, part) {
				t.Errorf("%s: Clean left %q", name, part)
			}
		}
	}
}

// TestCleanFindsEscapedBytes: bytes beyond ASCII, as languages print them.
func TestCleanFindsEscapedBytes(t *testing.T) {
	each := func(format string) func(string) string {
		return func(s string) string {
			var b strings.Builder
			for i := range len(s) {
				if s[i] < 0x80 {
					b.WriteByte(s[i])
				} else {
					fmt.Fprintf(&b, format, s[i])
				}
			}
			return b.String()
		}
	}
	runes := func(s string) string { // as Python's ascii() and JavaScript have Latin-1
		var b strings.Builder
		for _, c := range s {
			if c < 0x80 {
				b.WriteRune(c)
			} else {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		return b.String()
	}
	latin := map[string]string{"short": "schlüssel", "long": "größe-über-alles-ñandú-çà"}
	for name, encode := range map[string]func(string) string{
		"bytes":           each(`\x%02x`),
		"bytes, upper":    each(`\x%02X`),
		"bytes as JSON":   func(s string) string { return jsonEscape(each(`\x%02x`)(s)) },
		"percent":         each("%%%02x"),
		"percent in JSON": func(s string) string { return jsonEscape(each("%%%02x")(s)) },
		"JSON":            func(s string) string { return strings.Trim(fmt.Sprintf("%+q", s), `"`) },
		"Latin-1 runes":   runes,
	} {
		secrets := map[string]string{}
		for k, v := range latin {
			secrets[k] = v
		}
		if name != "Latin-1 runes" {
			secrets["Cyrillic"] = "пароль"
			secrets["Cyrillic, long"] = "очень-длинный-пароль"
			secrets["mixed"] = "pass🔑word-пароль"
		}
		for kind, secret := range secrets {
			text := "invalid client b'" + encode(secret) + "' given"
			got := redact.New([]byte(secret)).Clean(text)
			if want := "invalid client b'[redacted]' given"; got != want {
				t.Errorf("%s, %s: %q becomes %q", kind, name, text, got)
			}
		}
	}
}

func TestCleanLeavesInnocentText(t *testing.T) {
	r := redact.New([]byte("kX9vQ2mZr7TtY4wLp0sNbEc6HfUjGaDi"), []byte("shortone"))
	for _, s := range []string{
		"", "a", "client not found", "100% of a+b & <c> \\d %zz &bogus; \\u12",
		"kX9vQ2mZr7T", "shorton", strings.Repeat("aGVsbG8gd29ybGQ", 20),
	} {
		if got := r.Clean(s); got != s {
			t.Errorf("Clean(%q) = %q", s, got)
		}
	}
}

func TestCleanMergesWhatOverlaps(t *testing.T) {
	r := redact.New([]byte("aba"), []byte("kX9vQ2mZr7TtY4wLp0sN"), []byte("Y4wLp0sNbEc6HfUjGaDi"), nil, []byte{})
	for in, want := range map[string]string{
		"ababa":                              "[redacted]",
		"-aba-aba-":                          "-[redacted]-[redacted]-",
		"(kX9vQ2mZr7TtY4wLp0sNbEc6HfUjGaDi)": "([redacted])",
	} {
		if got := r.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNothingToLookFor(t *testing.T) {
	var none *redact.Redactor
	for _, r := range []*redact.Redactor{none, {}, redact.New(), redact.New(nil)} {
		if got := r.Clean("text"); got != "text" {
			t.Errorf("Clean = %q", got)
		}
	}
}

func TestText(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		max  int
		want string
	}{
		"plain":                {"client not found", 256, "client not found"},
		"other characters":     {"line one\r\nline two \x1b[31mred \"quoted\" \\ \xff é", 256, "line one  line two ?[31mred 'quoted' ? ? ?"},
		"cut":                  {strings.Repeat("x", 300), 256, strings.Repeat("x", 256)},
		"exactly":              {strings.Repeat("x", 256), 256, strings.Repeat("x", 256)},
		"marker not cut apart": {"12345[redacted]", 10, "12345"},
		"marker just fits":     {"12345[redacted]x", 15, "12345[redacted]"},
		"bracket of its own":   {"1234[xyz", 6, "1234[x"},
		"nothing":              {"abc", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := redact.Text(tt.in, tt.max); got != tt.want {
				t.Errorf("Text = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRedactorPrintsNothing(t *testing.T) {
	const value = "kX9vQ2mZr7TtY4wLp0sNbEc6HfUjGaDi"
	r := redact.New([]byte(value))
	r.Clean("prepares the needles")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "r", r)
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		r *redact.Redactor
		v redact.Redactor
	}
	for _, out := range []string{
		fmt.Sprint(r), fmt.Sprintf("%+v %#v %s %x", r, r, r, r), string(encoded), log.String(),
		fmt.Sprintf("%v %+v %#v", holder{r, *r}, holder{r, *r}, holder{r, *r}),
	} {
		if leaks(out, value, value) || strings.Contains(out, fmt.Sprintf("%x", value[:12])) {
			t.Errorf("printed %q", out)
		}
	}
}

// hostile texts make every view differ from the others, and long.
func hostile(size int) map[string]string {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = "ABCDEFabcdef0123456789%%%++\\\\u&#; "[rng.IntN(34)]
	}
	return map[string]string{
		"noise":     string(noise),
		"one run":   strings.Repeat("QUJD", size/4),
		"same byte": strings.Repeat("z", size),
		"percent":   strings.Repeat("%25", size/3),
		"ampersand": strings.Repeat("&", size),
		"backslash": strings.Repeat(`\`, size),
	}
}

func BenchmarkClean(b *testing.B) {
	r := redact.New([]byte(values["random"]), []byte(values["assertion"]), []byte("zzzzzzzzzzzzzzz"))
	texts := hostile(1 << 20)
	texts["usual"] = "Client authentication failed: the assertion's audience is not https://ehr.example.org/auth/token"
	for name, text := range texts {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				r.Clean(text)
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		redact.New([]byte(values["random"]), []byte(values["assertion"])).Clean("client not found")
	}
}

func FuzzClean(f *testing.F) {
	for _, v := range values {
		f.Add(v, "before ", " after", uint8(0), uint16(0), uint16(20))
		f.Add(v, "%", "+", uint8(3), uint16(2), uint16(14))
	}
	names := []string{
		"raw", "form", "percent, each upper", "percent, twice", "JSON", "HTML, each", "base64", "base64url raw",
		"base64 inside at 1", "base64 inside at 2", "Basic over-encoded", "percent, some, mixed case",
	}
	f.Fuzz(func(t *testing.T, value, before, after string, encoding uint8, start, length uint16) {
		// Around the marker's brackets a window could form that is not the value's.
		if strings.ContainsAny(value, "[]") || len(value) < 16 || len(value) > 4096 {
			return
		}
		r := redact.New([]byte(value))
		from := int(start) % (len(value) - 11)
		part := value[from:min(len(value), from+12+int(length))]
		name := names[int(encoding)%len(names)]
		if (name == "JSON" || name == "HTML, each") && strings.ContainsFunc(part, func(c rune) bool { return c > 0x7e }) {
			return // these escape characters, not bytes
		}
		got := r.Clean(before + encodings[name](part) + after)
		for i := range len(value) - 11 {
			if strings.Contains(got, value[i:i+12]) {
				t.Fatalf("window at %d of %q left in %q", i, value, got)
			}
		}
		alone := r.Clean(" " + encodings[name](part) + " ")
		if !strings.Contains(alone, redact.Marker) {
			t.Fatalf("%s of %q not found in %q", name, part, alone)
		}
		if out := redact.Text(got, 256); len(out) > 256 || strings.ContainsAny(out, "\"\\\n\x00") {
			t.Fatalf("Text = %q", out)
		}
	})
}
