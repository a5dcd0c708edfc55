// Package trustedpath tells whether anybody but root and this process's user could
// put another file where a path leads: what runs as this process, or for it, must
// be theirs alone.
//
// All errors are [smartcred.ConfigError], of the option that the caller names.
package trustedpath

import (
	"errors"
	"io/fs"

	"github.com/smartcred/smartcred"
)

func problem(option, what string, err error) error {
	var path *fs.PathError // says which path once more
	if errors.As(err, &path) {
		err = path.Err
	}
	return &smartcred.ConfigError{Option: option, Problem: what, Err: err}
}
