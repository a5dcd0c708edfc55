package pkcs11

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

func TestOpenRefuses(t *testing.T) {
	noLibrary := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(noLibrary, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ uri, says string }{
		"no module":       {"pkcs11:object=k", "module-path: is missing"},
		"relative module": {"pkcs11:object=k?module-path=lib.so", "module-path: is not an absolute path"},
		"no key":          {"pkcs11:token=t?module-path=" + noLibrary, "object: neither object"},
		"everything":      {"pkcs11:token=t", "object: neither object"},
		"no library":      {"pkcs11:object=k?module-path=" + noLibrary, "can't be loaded"},
		"gone":            {"pkcs11:object=k?module-path=" + noLibrary + "x", "can't be looked at"},
		"PIN itself":      {"pkcs11:object=k?module-path=" + noLibrary + "&pin-source=s3cr3t", "pin-source: can't be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := signer.Open(t.Context(), tt.uri, nil)
			if s != nil || !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Fatalf("%v, want ErrInvalidConfig", err)
			}
			if built && !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%q, want it to say %q", err, tt.says)
			}
			if !built && !strings.Contains(err.Error(), "CGO_ENABLED=1") {
				t.Errorf("%q, want it to say what the build lacks", err)
			}
		})
	}
	if _, err := New(nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("New(nil): %v, want ErrInvalidConfig", err)
	}
	if _, err := New(&Options{Module: noLibrary, Key: KeySelector{Label: "k"}, Algorithm: "HS256"}); built && !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		t.Errorf("HS256: %v, want ErrUnsupportedAlgorithm", err)
	}
}

func TestBackendHasNoQuery(t *testing.T) {
	o := Options{Module: "/m", Token: TokenSelector{Label: "a b", Slot: slot(0)}, Key: KeySelector{Label: "k;", ID: []byte{1}}}
	if got, want := o.backend(), "pkcs11:token=a%20b;slot-id=0;object=k%3B;id=%01"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
