//go:build unix

package trustedpath_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/trustedpath"
)

func check(path string) (resolved string, err error) {
	if resolved, err = trustedpath.Resolve("program", path); err != nil {
		return "", err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", err
	}
	return resolved, trustedpath.CheckFile("program", resolved, info)
}

func TestPaths(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(path string) string {
		t.Helper()
		must(os.WriteFile(path, nil, 0o600))
		return path
	}
	for name, tt := range map[string]struct {
		arrange func(dir string) (path string)
		says    string // empty: it is trusted
	}{
		"plain": {func(dir string) string { return file(dir + "/p") }, ""},
		"below a sticky folder": {func(dir string) string {
			must(os.MkdirAll(dir+"/tmp/own", 0o700))
			must(os.Chmod(dir+"/tmp", 0o777|os.ModeSticky))
			return file(dir + "/tmp/own/p")
		}, ""},
		"in a sticky folder": {func(dir string) string {
			must(os.Mkdir(dir+"/tmp", 0o700))
			must(os.Chmod(dir+"/tmp", 0o777|os.ModeSticky))
			return file(dir + "/tmp/p")
		}, "put it into one of its own"},
		"link in a sticky folder": {func(dir string) string {
			must(os.Mkdir(dir+"/tmp", 0o700))
			must(os.Chmod(dir+"/tmp", 0o777|os.ModeSticky))
			must(os.Symlink(file(dir+"/p"), dir+"/tmp/link"))
			return dir + "/tmp/link"
		}, "put it into one of its own"},
		"link to a sticky folder": {func(dir string) string {
			must(os.MkdirAll(dir+"/tmp/own", 0o700))
			must(os.Chmod(dir+"/tmp", 0o777|os.ModeSticky))
			file(dir + "/tmp/own/p")
			must(os.Symlink("tmp", dir+"/link"))
			return dir + "/link/own/p"
		}, ""},
		"link": {func(dir string) string {
			must(os.Mkdir(dir+"/real", 0o700))
			file(dir + "/real/p")
			must(os.Symlink("real/../real/p", dir+"/link"))
			return dir + "/link"
		}, ""},
		"link through an open folder": {func(dir string) string {
			must(os.MkdirAll(dir+"/open", 0o700))
			file(dir + "/p")
			must(os.Symlink("../p", dir+"/open/hop"))
			must(os.Symlink("open/hop", dir+"/link"))
			must(os.Chmod(dir+"/open", 0o777))
			return dir + "/link"
		}, "/open has mode 0777: group or others can write it"},
		"links in a circle": {func(dir string) string {
			must(os.Symlink("b", dir+"/a"))
			must(os.Symlink("a", dir+"/b"))
			return dir + "/a"
		}, "too many symbolic links"},
		"open parent": {func(dir string) string {
			must(os.MkdirAll(dir+"/open/in", 0o700))
			p := file(dir + "/open/in/p")
			must(os.Chmod(dir+"/open", 0o770))
			return p
		}, "/open has mode 0770"},
		"group can write it": {func(dir string) string {
			p := file(dir + "/p")
			must(os.Chmod(p, 0o660))
			return p
		}, "/p has mode 0660: group or others can write it: run chmod go-w"},
		"sticky does nothing for a file": {func(dir string) string {
			p := file(dir + "/p")
			must(os.Chmod(p, 0o666|os.ModeSticky))
			return p
		}, "group or others can write it"},
		"missing": {func(dir string) string { return dir + "/no" }, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "own")
			must(os.Mkdir(dir, 0o700))
			path := tt.arrange(dir)
			got, err := check(path)
			if tt.says == "" {
				if err != nil || filepath.Base(got) != "p" {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "program: ") || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q", err, tt.says)
			}
		})
	}
}

// TestForeignOwner needs root to give a file away; as another user, a file of
// root's is all that there is, and is trusted.
func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, err := check("/bin/sh"); err != nil {
			t.Errorf("/bin/sh: %v", err)
		}
		return
	}
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "p"), dir} {
		if err := os.WriteFile(filepath.Join(dir, "p"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := check(filepath.Join(dir, "p")); err == nil || !strings.Contains(err.Error(), path+" belongs to user 12345") {
			t.Errorf("error %v", err)
		}
		if err := os.Chown(path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
}
