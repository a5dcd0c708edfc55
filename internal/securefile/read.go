package securefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/smartcred/smartcred"
)

// MaxSize is the most bytes a file may have, where [Options] do not say.
const MaxSize = 1 << 20

// Options say what kind of file is read.
type Options struct {
	// Private: the file holds a secret or a private key, so others must not read it.
	Private bool
	// InsecurePermissions accepts private files that others can read, with an
	// event. Files that group or others can write are refused all the same.
	InsecurePermissions bool
	// MaxSize is the most bytes the file may have; 0: [MaxSize].
	MaxSize int64
	// Observer is told when a mode that is wider than it should be is accepted;
	// nil: slog's default logger. See [Once].
	Observer smartcred.Observer
}

// Read returns the content of the regular file at path. It keeps nothing: each
// call sees the file that is there, so a replaced file or a moved link counts
// at once.
func Read(ctx context.Context, path string, o Options) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, classify("open", path, err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, classify("stat", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path, info.Mode())
	}
	if err := checkMode(ctx, path, info.Mode().Perm(), o); err != nil {
		return nil, err
	}
	limit := o.MaxSize
	if limit == 0 {
		limit = MaxSize
	}
	if info.Size() > limit {
		return nil, tooLarge(path, limit)
	}
	// The size may change between the two calls, and is 0 in /proc.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, classify("read", path, err)
	}
	if int64(len(data)) > limit {
		return nil, tooLarge(path, limit)
	}
	return data, nil
}

// Resolve returns path, counted from dir where it is relative. An empty dir is
// the working directory.
func Resolve(dir, path string) string {
	if dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func notRegular(path string, mode fs.FileMode) error {
	what := "a device, pipe or socket"
	if mode.IsDir() {
		what = "a folder"
	}
	return &smartcred.ConfigError{Problem: fmt.Sprintf("%s is %s, not a regular file", path, what)}
}

func tooLarge(path string, limit int64) error {
	return &smartcred.ConfigError{Problem: fmt.Sprintf("%s is larger than %d bytes", path, limit)}
}

// classify maps what the operating system says onto the shared errors. The
// cause goes without fs.PathError's own mention of the path.
func classify(verb, path string, err error) error {
	cause := err
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		cause = pathErr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) || isNotFound(cause):
		return fmt.Errorf("%s %s: %w (%w)", verb, path, smartcred.ErrNotFound, cause)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s: %w (%w)", verb, path, smartcred.ErrDenied, cause)
	case isHopeless(cause):
		return &smartcred.ConfigError{Problem: verb + " " + path, Err: cause}
	default:
		return fmt.Errorf("%s %s: %w", verb, path, &smartcred.UnavailableError{Err: cause})
	}
}
