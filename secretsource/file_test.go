package secretsource

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
)

func TestFileContent(t *testing.T) {
	tests := map[string]struct {
		content, want string
		err           error
	}{
		"no newline":     {"abc", "abc", nil},
		"LF":             {"abc\n", "abc", nil},
		"CRLF":           {"abc\r\n", "abc", nil},
		"two LF":         {"abc\n\n", "abc\n", nil},
		"two CRLF":       {"abc\r\n\r\n", "abc\r\n", nil},
		"LF CRLF":        {"abc\n\r\n", "abc\n", nil},
		"CR stays":       {"abc\r", "abc\r", nil},
		"spaces stay":    {" a b \t\n", " a b \t", nil},
		"inner newlines": {"a\nb\r\nc\n", "a\nb\r\nc", nil},
		"any bytes":      {"\x00\xff\n", "\x00\xff", nil},
		"empty":          {"", "", smartcred.ErrInvalidConfig},
		"only LF":        {"\n", "", smartcred.ErrInvalidConfig},
		"only CRLF":      {"\r\n", "", smartcred.ErrInvalidConfig},
		"too large":      {strings.Repeat("x", securefile.MaxSize+1), "", smartcred.ErrInvalidConfig},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "f")
			write(t, path, tt.content, 0o600)
			write(t, path+".previous", tt.content, 0o600)
			expect(t, File(path, nil), Current, tt.want, tt.err)
			expect(t, File(path, nil), Previous, tt.want, tt.err)
		})
	}
}

func TestFileSeesReplacements(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	src := File("f", &OpenOptions{Dir: dir})
	versions := map[string]bool{}
	for _, value := range []string{"one", "two", "three"} {
		write(t, path+".tmp", value, 0o600)
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
		versions[expect(t, src, Current, value, nil).Version] = true
	}
	if len(versions) != 3 {
		t.Errorf("%d versions of 3 values", len(versions))
	}
}

// The kubelet writes a new folder and moves ..data to it with one rename.
func TestFileSeesKubernetesSwap(t *testing.T) {
	dir := t.TempDir()
	swap := func(generation, value string) {
		if err := os.Mkdir(filepath.Join(dir, generation), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, generation, "secret"), value, 0o644)
		tmp := filepath.Join(dir, "..data_tmp")
		if err := os.Symlink(generation, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("..1", "one")
	path := filepath.Join(dir, "secret")
	if err := os.Symlink(filepath.Join("..data", "secret"), path); err != nil {
		t.Fatal(err)
	}
	var warnings int
	src := File(path, &OpenOptions{Observer: smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) {
		if e.Kind == smartcred.EventInsecurePermissions {
			warnings++
		}
	})})
	expect(t, src, Current, "one", nil)
	swap("..2", "two")
	expect(t, src, Current, "two", nil)
	if want := 1; runtime.GOOS != "windows" && warnings != want {
		t.Errorf("%d warnings of the mode, want %d", warnings, want)
	}
}

func TestFilePermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // modes say nothing there
	}
	tests := map[string]struct {
		mode     fs.FileMode
		insecure bool
		err      error
	}{
		"owner":                  {0o600, false, nil},
		"group reads":            {0o640, false, nil},
		"others read":            {0o644, false, smartcred.ErrInvalidConfig},
		"others read, accepted":  {0o644, true, nil},
		"group writes":           {0o660, false, smartcred.ErrInvalidConfig},
		"group writes, accepted": {0o660, true, smartcred.ErrInvalidConfig},
		"others write":           {0o602, false, smartcred.ErrInvalidConfig},
		"others write, accepted": {0o602, true, smartcred.ErrInvalidConfig},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			src := File(path, &OpenOptions{InsecurePermissions: tt.insecure, Observer: smartcred.Discard})
			for _, stage := range []Stage{Current, Previous} {
				write(t, path, canary, 0o600)
				write(t, path+".previous", canary, 0o600)
				at := path + map[Stage]string{Previous: ".previous"}[stage]
				if err := os.Chmod(at, tt.mode); err != nil {
					t.Fatal(err)
				}
				s, err := src.Lookup(t.Context(), stage)
				if !errors.Is(err, tt.err) {
					t.Fatalf("%s: error %v, want %v", stage, err, tt.err)
				}
				if tt.err == nil && string(s.Reveal()) != canary {
					t.Errorf("%s: wrong value", stage)
				}
				if tt.err != nil && (!strings.Contains(err.Error(), "chmod") || !strings.Contains(err.Error(), at) || shows(err.Error())) {
					t.Errorf("%s: error %q", stage, err)
				}
			}
		})
	}
}

func FuzzTrimNewline(f *testing.F) {
	for _, seed := range []string{"", "\n", "\r\n", "\r", "a", "a\n", "a\r\n", "a\n\n", "a\r\r\n", "\n\r"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got := trimNewline(data)
		cut, ok := bytes.CutPrefix(data, got)
		if !ok {
			t.Fatalf("trimNewline(%q) = %q: not a prefix", data, got)
		}
		switch string(cut) {
		case "":
			if bytes.HasSuffix(data, []byte("\n")) {
				t.Fatalf("trimNewline(%q) kept the newline", data)
			}
		case "\n":
			if bytes.HasSuffix(got, []byte("\r")) {
				t.Fatalf("trimNewline(%q) cut half a CRLF", data)
			}
		case "\r\n":
		default:
			t.Fatalf("trimNewline(%q) cut %q", data, cut)
		}
	})
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Error(err)
	}
}
