//go:build unix

package program

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// script is a one-shot source whose secret is word.
func script(word string) string {
	return `#!/bin/sh
read -r line
id=${line#'{"id":'}
id=${id%%,*}
case $line in
*'"method":"hello"'*) echo "{\"id\":$id,\"protocol\":1,\"mode\":\"one-shot\",\"roles\":[\"source\"]}" ;;
*) echo "{\"id\":$id,\"secret\":\"` + word + `\",\"version\":\"1\"}" ;;
esac
`
}

// private returns a folder that only this user can write, whatever the umask.
func private(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func executable(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

func openScript(t *testing.T, p secretsource.Plugin) (secretsource.Source, error) {
	t.Helper()
	src, err := secretsource.Open(t.Context(), "plugin://script/x", &secretsource.OpenOptions{
		Observer: smartcred.Discard, Plugins: map[string]secretsource.Plugin{"script": p}})
	if err == nil {
		t.Cleanup(func() { _ = src.(*programSource).Close() })
	}
	return src, err
}

func word(t *testing.T, src secretsource.Source) string {
	t.Helper()
	s, err := src.Lookup(t.Context(), secretsource.Current)
	if err != nil {
		t.Fatal(err)
	}
	return string(s.Reveal())
}

// TestWhatWasHashedRuns: at every start, whatever becomes of the file.
func TestWhatWasHashedRuns(t *testing.T) {
	path := executable(t, filepath.Join(private(t), "script"), script("good"))
	src, err := openScript(t, secretsource.Plugin{Path: path, SHA256: strings.ToUpper(sum(script("good")))})
	if err != nil {
		t.Fatal(err)
	}
	for _, replace := range []func() error{
		func() error { return nil },
		func() error { return os.WriteFile(path, []byte(script("evil")), 0o700) }, // in place
		func() error { return os.Rename(executable(t, path+".new", script("evil")), path) },
		func() error { return os.Remove(path) },
	} {
		if err := replace(); err != nil {
			t.Fatal(err)
		}
		if got := word(t, src); got != "good" {
			t.Fatalf("the program says %q", got)
		}
	}
	executable(t, path, script("evil"))
	_, err = openScript(t, secretsource.Plugin{Path: path, SHA256: sum(script("good"))})
	if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "sha256: is not that of the program, which has "+sum(script("evil"))) {
		t.Errorf("Open = %v", err)
	}
}

// TestPrivateCopy is how it is done where there is no sealed memory.
func TestPrivateCopy(t *testing.T) {
	path := executable(t, filepath.Join(private(t), "script"), script("good"))
	t.Setenv("TMPDIR", private(t))
	src, err := openScript(t, secretsource.Plugin{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := src.(*programSource).runner
	_ = r.pinned.Close()
	if r.pinned, err = privateCopy(f, "script", sum(script("good"))); err != nil {
		t.Fatal(err)
	}
	executable(t, path, script("evil"))
	if got := word(t, src); got != "good" {
		t.Errorf("the program says %q", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := privateCopy(f, "script", sum(script("good"))); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("a copy of another content: %v", err)
	}
}

func TestTrustedPaths(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		arrange func(dir string) (path string)
		says    string // empty: it may be run
	}{
		"plain": {func(dir string) string { return executable(t, dir+"/p", script("x")) }, ""},
		"open parent": {func(dir string) string {
			must(os.MkdirAll(dir+"/open/in", 0o700))
			p := executable(t, dir+"/open/in/p", script("x"))
			must(os.Chmod(dir+"/open", 0o770))
			return p
		}, "/open has mode 0770"},
		"group can write it": {func(dir string) string {
			p := executable(t, dir+"/p", script("x"))
			must(os.Chmod(p, 0o720))
			return p
		}, "group or others can write it"},
		"not executable": {func(dir string) string {
			must(os.WriteFile(dir+"/p", nil, 0o600))
			return dir + "/p"
		}, "can't be executed: run chmod"},
		"folder":   {func(dir string) string { return dir }, "is not a regular file"},
		"missing":  {func(dir string) string { return dir + "/no" }, "no such file"},
		"relative": {func(string) string { return "p" }, "is not absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			path := tt.arrange(private(t))
			src, err := openScript(t, secretsource.Plugin{Path: path})
			if tt.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := word(t, src); got != "x" {
					t.Errorf("the program says %q", got)
				}
				return
			}
			if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Open = %v, want %q", err, tt.says)
			}
		})
	}
}

// TestForeignOwner needs root to give a file away; as another user, a file of
// root's is all that there is.
func TestForeignOwner(t *testing.T) {
	path := executable(t, filepath.Join(private(t), "p"), script("x"))
	if os.Geteuid() != 0 {
		src, err := openScript(t, secretsource.Plugin{Path: "/bin/sh"})
		if err != nil {
			t.Fatalf("/bin/sh: %v", err)
		}
		if err := src.(*programSource).Close(); err != nil {
			t.Error(err)
		}
		return
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := openScript(t, secretsource.Plugin{Path: path}); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("Open = %v", err)
	}
}

func TestStartsThatCanNotWork(t *testing.T) {
	for name, content := range map[string]string{
		"no interpreter": "#!/no/such/interpreter\n",
		"no program":     "neither a script nor a program\n",
	} {
		t.Run(name, func(t *testing.T) {
			src, err := openScript(t, secretsource.Plugin{Path: executable(t, filepath.Join(private(t), "p"), content)})
			if err != nil {
				t.Fatal(err)
			}
			for range 3 { // in the back-off too
				if _, err := src.Lookup(t.Context(), secretsource.Current); !errors.Is(err, smartcred.ErrInvalidConfig) {
					t.Errorf("Lookup = %v", err)
				}
			}
		})
	}
}

// TestNothingIsLeft: not what the program started either.
func TestNothingIsLeft(t *testing.T) {
	dir := private(t)
	pid := filepath.Join(dir, "pid")
	src, err := openScript(t, secretsource.Plugin{Path: executable(t, filepath.Join(dir, "p"),
		"#!/bin/sh\nsleep 1000 &\necho $! >"+pid+"\n"+strings.TrimPrefix(script("x"), "#!/bin/sh\n"))})
	if err != nil {
		t.Fatal(err)
	}
	if got := word(t, src); got != "x" {
		t.Errorf("the program says %q", got)
	}
	if err := src.(*programSource).Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	// It was killed; the kernel may still be at it.
	for range 1000 {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(left)) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("a child of the program runs")
}
