package secretsource

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "plain"), "from file\n", 0o600)
	write(t, filepath.Join(dir, "a b%#?ü"), "odd name\n", 0o600)
	write(t, filepath.Join(dir, "json"), `{"client_secret":"field","a#b c":"odd field"}`, 0o600)
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sub", "f"), "below\n", 0o600)
	t.Setenv("SMARTCRED_TEST_ENV", "from env")
	t.Setenv("SMARTCRED_TEST_JSON", `{"client_secret":"field of env"}`)
	slashed := filepath.ToSlash(dir)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed
	}

	tests := map[string]string{
		"env:SMARTCRED_TEST_ENV":                      "from env",
		"ENV:SMARTCRED_TEST_ENV":                      "from env",
		"env:SMARTCRED%5FTEST_ENV":                    "from env",
		"env:SMARTCRED_TEST_JSON#client_secret":       "field of env",
		"file:plain":                                  "from file",
		"file:./plain":                                "from file",
		"file:sub/f":                                  "below",
		"file:sub%2Ff":                                "below",
		"file:sub/../plain":                           "from file",
		"file://" + slashed + "/plain":                "from file",
		"file:" + slashed + "/plain":                  "from file",
		"file://localhost" + slashed + "/plain":       "from file",
		"file:a%20b%25%23%3F%C3%BC":                   "odd name",
		"file:a b%25%23%3Fü":                          "odd name",
		"file://" + slashed + "/a%20b%25%23%3F%C3%BC": "odd name",
		"file:json#client_secret":                     "field",
		"file:json#a%23b%20c":                         "odd field",
		"file://" + slashed + "/json#client_secret":   "field",
	}
	for uri, want := range tests {
		t.Run(uri, func(t *testing.T) {
			src, err := Open(t.Context(), uri, &OpenOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, src, Current, want, nil)
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		uri string
		say string // part of the message
	}{
		"a secret":                {canary, "not a secret source's URI"},
		"empty":                   {"", "not a secret source's URI"},
		"a secret with a colon":   {canary + ":rest", "not a secret source's URI"},
		"like a scheme":           {"canary-s3cr3t:" + canary, "unknown scheme"},
		"like a URL":              {"https://user:" + canary + "@host/?" + canary, "unknown scheme"},
		"percent":                 {"%zz" + canary, "not a secret source's URI"},
		"windows path":            {`C:\secrets\` + canary, "unknown scheme"},
		"vault-kv not built":      {"vault-kv://secret/" + canary, "import github.com/smartcred/smartcred/plugins/vaultkv"},
		"aws not built":           {"awssecretsmanager:///" + canary, "import github.com/smartcred/smartcred/plugins/awssecretsmanager"},
		"plugin not built":        {"plugin://" + canary, "import github.com/smartcred/smartcred/plugins/program"},
		"a signer's":              {"vault-transit://transit/" + canary, "a signer's scheme"},
		"prefix of a scheme":      {"fil:" + canary, "unknown scheme"},
		"scheme and more":         {"files:" + canary, "unknown scheme"},
		"env with //":             {"env://" + canary, "env:NAME"},
		"env with /":              {"env:/" + canary, "env:NAME"},
		"env without name":        {"env:", "env:NAME"},
		"env, no name":            {"env:" + canary, "env:NAME"},
		"env, digit":              {"env:1A", "env:NAME"},
		"env, bad escape":         {"env:A%zz" + canary, "env:NAME"},
		"env with option":         {"env:A?x=" + canary, `unknown query option "x": it has none`},
		"file without path":       {"file:", "file:///absolute/path"},
		"file with two slashes":   {"file://" + "secrets/x", "file:///absolute/path"},
		"file with userinfo":      {"file://user:S3cr3t@localhost/x", "file:///absolute/path"},
		"file, bad port":          {"file://host:" + canary + "/x", "not a valid URI"},
		"file, bad escape":        {"file:///x%zz" + canary, "not a valid URI"},
		"file, bad opaque escape": {"file:x%zz" + canary, "file:///absolute/path"},
		"file with option":        {"file:///x?mode=" + canary, `unknown query option "mode": it has none`},
		"file with ? in secret":   {"file:x?" + canary, "unknown query option: it has none"},
		"file, bad query":         {"file:x?a=%zz" + canary, "query is malformed"},
		"file, semicolon":         {"file:x?a;" + canary, "query is malformed"},
		"control character":       {"file:x\x7f" + canary, "not a valid URI"},
		"empty field":             {"file:x#", "ends in #"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src, err := Open(t.Context(), tt.uri, nil)
			if src != nil || !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Fatalf("Open = %v, %v; want ErrInvalidConfig", src, err)
			}
			if !strings.Contains(err.Error(), tt.say) {
				t.Errorf("error %q does not say %q", err, tt.say)
			}
			if printed := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(strings.ToLower(printed), "s3cr3t") {
				t.Errorf("error shows the URI: %s", printed)
			}
		})
	}
}

func TestOpenNamesAllSchemes(t *testing.T) {
	_, err := Open(t.Context(), "vault:x", nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"env:", "file:", "test-registered:",
		"vault-kv: (import github.com/smartcred/smartcred/plugins/vaultkv)",
		"awssecretsmanager: (import github.com/smartcred/smartcred/plugins/awssecretsmanager)",
		"plugin: (import github.com/smartcred/smartcred/plugins/program)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}
}

func TestOpenRefusesShortKey(t *testing.T) {
	_, err := Open(t.Context(), "env:A", &OpenOptions{FingerprintKey: []byte("short")})
	if !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("error %v, want ErrInvalidConfig", err)
	}
}

// The registry is the process's: the scheme is there for all tests.
func init() {
	Register("test-registered", func(_ context.Context, uri *url.URL, opts *OpenOptions) (Source, error) {
		values, err := CheckQuery(uri, "value", "fail")
		if err != nil {
			return nil, err
		}
		if values.Has("fail") {
			return nil, smartcred.ErrDenied
		}
		return withField(&fake{lookup: func(context.Context, Stage) (Secret, error) {
			return opts.NewSecret([]byte(values.Get("value"))), nil
		}}, uri), nil
	})
}

func TestRegisteredScheme(t *testing.T) {
	src, err := Open(t.Context(), "test-registered:///x?value=a%26b", nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, src, Current, "a&b", nil)

	if _, err := Open(t.Context(), "test-registered:///x?fail=1", nil); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("error %v, want the opener's", err)
	}
	_, err = Open(t.Context(), "test-registered:///x?valeu=1", nil)
	if err == nil || !strings.Contains(err.Error(), `unknown query option "valeu": known are value, fail`) {
		t.Errorf("error %v does not name the options", err)
	}
	_, err = Open(t.Context(), "test-registered:///x?value=1&value=2", nil)
	if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "value: given twice") {
		t.Errorf("error %v, want one of the option given twice", err)
	}
}

func TestRegisterPanics(t *testing.T) {
	opener := func(context.Context, *url.URL, *OpenOptions) (Source, error) { return nil, nil }
	tests := map[string]struct {
		scheme string
		open   Opener
	}{
		"empty":      {"", opener},
		"upper case": {"Vault", opener},
		"digit":      {"1password", opener},
		"underscore": {"vault_kv", opener},
		"colon":      {"vault:", opener},
		"nil":        {"test-nil", nil},
		"built in":   {"file", opener},
		"twice":      {"test-registered", opener},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			Register(tt.scheme, tt.open)
		})
	}
}

func FuzzOpen(f *testing.F) {
	for _, seed := range []string{
		"env:A", "env:A#f", "env:A?x=1", "file:///a", "file:a%20b", "file:a#f", "file://u:p@h/x", "file:", "vault-kv://a/b#c",
		"x", "", ":", "a:", "file:%", "file://[::1", "\x00:", "FILE:a", "plugin://x?y=z",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if strings.HasPrefix(strings.ToLower(uri), "test-registered:") {
			return
		}
		src, err := Open(t.Context(), uri, nil)
		if (src == nil) == (err == nil) {
			t.Fatalf("Open(%q) = %v, %v", uri, src, err)
		}
		if err != nil && !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Fatalf("Open(%q): untyped error %v", uri, err)
		}
		// Text behind the scheme is never printed, whatever is wrong with it.
		marked := uri + "?" + canary
		if _, err := Open(t.Context(), marked, nil); err != nil && shows(err.Error()) {
			t.Fatalf("Open(%q) shows it: %v", marked, err)
		}
	})
}
