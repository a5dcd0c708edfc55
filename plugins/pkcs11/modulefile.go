package pkcs11

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/smartcred/smartcred"
)

const (
	othersWrite  = 0o022 // group or others
	moduleOption = "module-path"
)

// checkModule returns the path of a library with its links resolved, after
// checking that nobody but root and this user can put another in its place: what
// is loaded runs as this process.
func checkModule(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", &smartcred.ConfigError{Option: moduleOption, Problem: "the library can't be found", Err: err}
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", &smartcred.ConfigError{Option: moduleOption, Problem: "the library can't be looked at", Err: err}
	}
	if !info.Mode().IsRegular() {
		return "", &smartcred.ConfigError{Option: moduleOption, Problem: resolved + " is not a file"}
	}
	for at := resolved; ; at = filepath.Dir(at) {
		if info, err = os.Lstat(at); err != nil {
			return "", &smartcred.ConfigError{Option: moduleOption, Problem: "the folders above the library can't be looked at", Err: err}
		}
		if err := checkOwner(at, info); err != nil {
			return "", err
		}
		if at == filepath.Dir(at) {
			return resolved, nil
		}
	}
}

// checkMode refuses what others can write. In a folder with the sticky bit they
// can't replace what is not theirs.
func checkMode(path string, mode fs.FileMode) error {
	if mode&othersWrite == 0 || mode.IsDir() && mode&fs.ModeSticky != 0 {
		return nil
	}
	return &smartcred.ConfigError{Option: moduleOption, Problem: fmt.Sprintf(
		"%s has mode %04o: group or others can write it, and so choose what this process runs: run chmod go-w %s", path, mode.Perm(), path)}
}
