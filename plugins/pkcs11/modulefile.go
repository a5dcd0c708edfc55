package pkcs11

import (
	"os"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/trustedpath"
)

const moduleOption = "module-path"

// checkModule returns the path of a library with its links resolved, after
// checking that nobody but root and this user can put another in its place: what
// is loaded runs as this process.
func checkModule(path string) (string, error) {
	resolved, err := trustedpath.Resolve(moduleOption, path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", &smartcred.ConfigError{Option: moduleOption, Problem: "the library can't be looked at", Err: err}
	}
	if !info.Mode().IsRegular() {
		return "", &smartcred.ConfigError{Option: moduleOption, Problem: resolved + " is not a file"}
	}
	return resolved, trustedpath.CheckFile(moduleOption, resolved, info)
}
