package securefile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
)

const canary = "canary-7f3a"

func TestReadResults(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	writeFile(t, plain, canary, 0o600)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("plain", link); err != nil {
		t.Fatal(err)
	}
	largest := filepath.Join(dir, "largest")
	writeFile(t, largest, strings.Repeat("x", MaxSize), 0o600)
	tooBig := filepath.Join(dir, "toobig")
	writeFile(t, tooBig, strings.Repeat("x", MaxSize+1), 0o600)
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, "", 0o600)

	tests := map[string]struct {
		path string
		size int
		err  error
	}{
		"regular":         {plain, len(canary), nil},
		"link":            {link, len(canary), nil},
		"largest allowed": {largest, MaxSize, nil},
		"empty":           {empty, 0, nil},
		"too large":       {tooBig, 0, smartcred.ErrInvalidConfig},
		"missing":         {filepath.Join(dir, "absent"), 0, smartcred.ErrNotFound},
		"folder":          {dir, 0, smartcred.ErrInvalidConfig},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			data, err := Read(t.Context(), tt.path, Options{Private: true, Observer: failOnEvent(t)})
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if tt.err != nil && !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %q does not name the path", err)
			}
			if len(data) != tt.size {
				t.Errorf("%d bytes, want %d", len(data), tt.size)
			}
		})
	}
}

func TestReadSeesReplacedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"one", "two", "three"} {
		writeFile(t, path+".new", content, 0o600)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		got, err := Read(t.Context(), path, Options{})
		if err != nil || string(got) != content {
			t.Fatalf("Read = %q, %v; want %q", got, err, content)
		}
	}
}

func TestReadEndedContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, canary, 0o600)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, path, Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
}

func TestClassify(t *testing.T) {
	broken := errors.New("input/output error")
	tests := map[string]struct {
		cause, want error
	}{
		"not exist":  {fs.ErrNotExist, smartcred.ErrNotFound},
		"permission": {fs.ErrPermission, smartcred.ErrDenied},
		"other":      {broken, smartcred.ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := classify("open", "/p", &fs.PathError{Op: "open", Path: "/p", Err: tt.cause})
			if !errors.Is(err, tt.want) || !errors.Is(err, tt.cause) {
				t.Errorf("%v matches neither %v nor its cause", err, tt.want)
			}
			if n := strings.Count(err.Error(), "/p"); n != 1 {
				t.Errorf("%q names the path %d times", err, n)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	abs := filepath.Join(t.TempDir(), "f")
	tests := map[string]struct{ dir, path, want string }{
		"relative":          {"conf", "a/b", filepath.Join("conf", "a", "b")},
		"up":                {filepath.Join("conf", "x"), "../b", filepath.Join("conf", "b")},
		"working directory": {"", "a/b", "a/b"},
		"absolute":          {"conf", abs, abs},
		"absolute, no dir":  {"", abs, abs},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Resolve(tt.dir, tt.path); got != tt.want {
				t.Errorf("Resolve(%q, %q) = %q, want %q", tt.dir, tt.path, got, tt.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("x"))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 4096))
	path := filepath.Join(f.TempDir(), "f")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(t.Context(), path, Options{Private: true})
		if len(content) > MaxSize {
			if !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Fatalf("error %v, want ErrInvalidConfig", err)
			}
			return
		}
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("Read = %d bytes, %v; want %d", len(got), err, len(content))
		}
	})
}

func writeFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
}

func failOnEvent(t *testing.T) smartcred.Observer {
	return smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) {
		t.Errorf("unexpected event %s: %s", e.Kind, e.Detail)
	})
}
