//go:build unix

package pkcs11

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
)

func TestCheckModule(t *testing.T) {
	for name, tt := range map[string]struct {
		file, folder fs.FileMode
		says         string
	}{
		"private":              {0o600, 0o700, ""},
		"as packages do":       {0o755, 0o755, ""},
		"sticky folder":        {0o644, 0o777 | fs.ModeSticky, "put it into one of its own"},
		"group writes file":    {0o664, 0o755, "chmod go-w"},
		"others write file":    {0o646, 0o755, "chmod go-w"},
		"group writes folder":  {0o644, 0o775, "chmod go-w"},
		"others write folder":  {0o644, 0o757, "chmod go-w"},
		"sticky does no files": {0o666 | fs.ModeSticky, 0o755, "chmod go-w"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "lib")
			path := filepath.Join(folder, "hsm.so")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Chmod(path, tt.file), os.Chmod(folder, tt.folder)); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(t.TempDir(), "link.so")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			for _, named := range []string{path, link} {
				got, err := checkModule(named)
				if tt.says == "" {
					if err != nil || filepath.Base(got) != "hsm.so" {
						t.Errorf("%q, %v", got, err)
					}
				} else if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want ErrInvalidConfig that says %q", err, tt.says)
				}
			}
		})
	}
	for name, path := range map[string]string{"missing": filepath.Join(t.TempDir(), "x"), "folder": t.TempDir()} {
		if _, err := checkModule(path); !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%s: %v, want ErrInvalidConfig", name, err)
		}
	}
}
