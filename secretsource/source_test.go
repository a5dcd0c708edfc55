package secretsource

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
)

// fake is a Source whose answers a test sets.
type fake struct {
	lookup func(ctx context.Context, stage Stage) (Secret, error)
	calls  [Previous + 1]atomic.Int32
	closed atomic.Int32
	closes error
}

func (f *fake) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	f.calls[stage].Add(1)
	return f.lookup(ctx, stage)
}

func (f *fake) Close() error {
	f.closed.Add(1)
	return f.closes
}

// failing returns a source that answers with err.
func failing(err error) *fake {
	return &fake{lookup: func(context.Context, Stage) (Secret, error) { return Secret{}, err }}
}

// holding returns a source that has value as current and no previous.
func holding(value string) *fake {
	return &fake{lookup: func(ctx context.Context, stage Stage) (Secret, error) {
		return Static([]byte(value)).Lookup(ctx, stage)
	}}
}

// expect looks stage up and compares; wantErr nil means that want is the value.
func expect(t *testing.T, src Source, stage Stage, want string, wantErr error) Secret {
	t.Helper()
	s, err := src.Lookup(t.Context(), stage)
	if !errors.Is(err, wantErr) {
		t.Fatalf("Lookup(%s): error %v, want %v", stage, err, wantErr)
	}
	if got := string(s.Reveal()); got != want {
		t.Fatalf("Lookup(%s) = %q, want %q", stage, got, want)
	}
	if err != nil && !s.IsZero() {
		t.Errorf("Lookup(%s) gives a secret beside the error %v", stage, err)
	}
	return s
}

func TestEveryBackendHonoursTheContract(t *testing.T) {
	t.Setenv("SMARTCRED_TEST_A", "a")
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "a", 0o600)
	sources := map[string]Source{
		"env":    Env("SMARTCRED_TEST_A", nil),
		"file":   File(path, nil),
		"static": Static([]byte("a")),
		"list":   List(Static([]byte("a")), Static([]byte("a"))),
		"field":  Field(Static([]byte(`{"x":"a"}`)), "x"),
		"cache":  NewCache(Static([]byte("a")), nil),
	}
	for name, src := range sources {
		t.Run(name, func(t *testing.T) {
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := src.Lookup(ended, Current); !errors.Is(err, context.Canceled) {
				t.Errorf("ended context: error %v, want context.Canceled", err)
			}
			s := expect(t, src, Current, "a", nil)
			if s.Version == "" || strings.Contains(s.Version, "a\n") {
				t.Errorf("version %q", s.Version)
			}
			expect(t, src, Previous, "", smartcred.ErrNotFound)
			expect(t, src, Stage(7), "", smartcred.ErrNotFound)
			expect(t, src, Stage(-1), "", smartcred.ErrNotFound)
		})
	}
}

func TestEnv(t *testing.T) {
	const name = "SMARTCRED_TEST_SECRET"
	src := Env(name, nil)
	for _, value := range []string{"plain", " kept as it is\n", "ü"} {
		t.Setenv(name, value)
		expect(t, src, Current, value, nil)
	}
	t.Setenv(name, "")
	_, err := src.Lookup(t.Context(), Current)
	if !errors.Is(err, smartcred.ErrNotFound) || !strings.Contains(err.Error(), name) {
		t.Errorf("empty: error %v, want ErrNotFound that names the variable", err)
	}
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
	expect(t, src, Current, "", smartcred.ErrNotFound)

	expect(t, src, Previous, "", smartcred.ErrNotFound)
	t.Setenv(name+"_PREVIOUS", "old")
	expect(t, src, Previous, "old", nil)
}

func TestVersions(t *testing.T) {
	key := &OpenOptions{FingerprintKey: []byte(strings.Repeat("k", 32))}
	a := key.NewSecret([]byte("a"))
	// HMAC-SHA256 under 32 times "k" of "smartcred secret version\0a", by another implementation.
	if want := "fp-18ce5f8bb702"; a.Version != want {
		t.Errorf("version %q, want %q", a.Version, want)
	}
	if b := key.NewSecret([]byte("b")); b.Version == a.Version {
		t.Error("two values have one version")
	}
	if other := (&OpenOptions{FingerprintKey: []byte(strings.Repeat("K", 32))}).NewSecret([]byte("a")); other.Version == a.Version {
		t.Error("the version does not depend on the key")
	}
	var none *OpenOptions
	process := none.NewSecret([]byte("a")).Version
	if process != new(OpenOptions).NewSecret([]byte("a")).Version {
		t.Error("without a key versions differ within a process")
	}
	if process == a.Version {
		t.Error("without a key the version is the one under a key")
	}

	caller := []byte(strings.Repeat("k", 32))
	newSecret := (&OpenOptions{FingerprintKey: caller}).maker()
	clear(caller)
	if newSecret([]byte("a")).Version != a.Version {
		t.Error("a source's versions change with the caller's slice")
	}
}

func TestStatic(t *testing.T) {
	expect(t, StaticPair([]byte("new"), []byte("old")), Current, "new", nil)
	expect(t, StaticPair([]byte("new"), []byte("old")), Previous, "old", nil)
	expect(t, Static(nil), Current, "", smartcred.ErrInvalidConfig)
}

func TestList(t *testing.T) {
	broken := errors.New("broken")
	value := func(s string) Source { return StaticPair([]byte(s), []byte("never asked for")) }
	tests := map[string]struct {
		sources     []Source
		current     string
		currentErr  error
		previous    string
		previousErr error
	}{
		"one":                  {[]Source{value("a")}, "a", nil, "", smartcred.ErrNotFound},
		"two":                  {[]Source{value("a"), value("b")}, "a", nil, "b", nil},
		"equal ones passed":    {[]Source{value("a"), value("a"), value("c")}, "a", nil, "c", nil},
		"all equal":            {[]Source{value("a"), value("a")}, "a", nil, "", smartcred.ErrNotFound},
		"missing passed":       {[]Source{value("a"), failing(smartcred.ErrNotFound), value("c")}, "a", nil, "c", nil},
		"denied passed":        {[]Source{value("a"), failing(smartcred.ErrDenied), value("c")}, "a", nil, "c", nil},
		"denied at the end":    {[]Source{value("a"), failing(smartcred.ErrDenied)}, "a", nil, "", smartcred.ErrDenied},
		"unavailable later":    {[]Source{value("a"), failing(smartcred.ErrUnavailable), value("c")}, "a", nil, "", smartcred.ErrUnavailable},
		"broken later":         {[]Source{value("a"), failing(broken), value("c")}, "a", nil, "", broken},
		"first revoked":        {[]Source{failing(smartcred.ErrNotFound), value("b")}, "", smartcred.ErrNotFound, "", smartcred.ErrNotFound},
		"first unavailable":    {[]Source{failing(smartcred.ErrUnavailable), value("b")}, "", smartcred.ErrUnavailable, "", smartcred.ErrUnavailable},
		"empty is a misuse":    {nil, "", smartcred.ErrInvalidConfig, "", smartcred.ErrInvalidConfig},
		"first source differs": {[]Source{value("a"), value("b"), failing(broken)}, "a", nil, "b", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := List(tt.sources...)
			expect(t, l, Current, tt.current, tt.currentErr)
			expect(t, l, Previous, tt.previous, tt.previousErr)
		})
	}
}

func TestWrappersForwardClose(t *testing.T) {
	broken := errors.New("broken")
	a, b := holding("a"), holding("b")
	b.closes = broken
	wrapped := List(Field(a, "x"), Static([]byte("no closer")), b)
	if err := wrapped.(io.Closer).Close(); !errors.Is(err, broken) {
		t.Errorf("Close = %v, want the source's error", err)
	}
	if err := wrapped.(io.Closer).Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	if a.closed.Load() != 1 || b.closed.Load() != 1 {
		t.Errorf("sources closed %d and %d times, want once", a.closed.Load(), b.closed.Load())
	}
	expect(t, wrapped, Current, "", smartcred.ErrClosed)
}

func TestStageString(t *testing.T) {
	for stage, want := range map[Stage]string{Current: "current", Previous: "previous", 9: "unknown stage"} {
		if got := stage.String(); got != want {
			t.Errorf("Stage(%d) = %q, want %q", stage, got, want)
		}
	}
}

func TestFileTakesTheTimeForASecondLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	tests := map[string]struct {
		before func()
		want   string
		err    error
	}{
		"missing stays missing": {func() {}, "", smartcred.ErrNotFound},
		"empty stays empty":     {func() { write(t, path, "", 0o600) }, "", smartcred.ErrInvalidConfig},
		"replaced meanwhile":    {func() { time.AfterFunc(time.Second/2, func() { write(t, path, "new\n", 0o600) }) }, "new", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(path)
			synctest.Test(t, func(t *testing.T) {
				tt.before()
				start := time.Now()
				expect(t, File(path, nil), Current, tt.want, tt.err)
				if took := time.Since(start); took != time.Second {
					t.Errorf("answered after %s, want %s", took, time.Second)
				}
			})
		})
	}
	_ = os.Remove(path)
	t.Run("previous is looked at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			expect(t, File(path, nil), Previous, "", smartcred.ErrNotFound)
			if took := time.Since(start); took != 0 {
				t.Errorf("answered after %s", took)
			}
		})
	})
	t.Run("the caller's context ends it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/4)
			defer cancel()
			_, err := File(path, nil).Lookup(ctx, Current)
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, smartcred.ErrNotFound) {
				t.Errorf("error %v, want only context.DeadlineExceeded", err)
			}
		})
	})
}
