package program

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/trustedpath"
)

const pathOption = "path"

// maxProgram is the most bytes a program may have: it is copied.
const maxProgram = 512 << 20

// A pinned is a program's content as it was when it was opened: what was hashed
// is what every later start executes, whatever happens to its file.
type pinned struct {
	path string   // what to execute
	file *os.File // the child's descriptor 3, where path names it
	dir  string   // a folder of its own, to be removed
}

// pin copies the program at path, which must be one that nobody but root and this
// user can change. A hash that is not empty must be that of the content.
func pin(path, hash string) (*pinned, error) {
	if !filepath.IsAbs(path) {
		return nil, &smartcred.ConfigError{Option: pathOption, Problem: "is not absolute: write the whole path of the program"}
	}
	if !trustedpath.Checked {
		return nil, &smartcred.ConfigError{Option: "plugin", Problem: "programs are run on Unix only: elsewhere it can't be told who could have changed them"}
	}
	real, err := trustedpath.Resolve(pathOption, path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return nil, pathProblem("can't be opened", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, pathProblem("can't be looked at", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, &smartcred.ConfigError{Option: pathOption, Problem: real + " is not a regular file"}
	case info.Mode().Perm()&0o111 == 0:
		return nil, &smartcred.ConfigError{Option: pathOption, Problem: real + " can't be executed: run chmod u+x " + real}
	case info.Size() > maxProgram:
		return nil, &smartcred.ConfigError{Option: pathOption, Problem: fmt.Sprintf("%s has more than %d bytes", real, maxProgram)}
	}
	// Of the open file, not of the path: only this one is copied.
	if err := trustedpath.CheckFile(pathOption, real, info); err != nil {
		return nil, err
	}
	return copyOf(f, filepath.Base(path), hash)
}

// hashed copies src to dst and compares the content with a hash.
func hashed(dst io.Writer, src io.Reader, hash string) error {
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(dst, h), io.LimitReader(src, maxProgram+1))
	switch {
	case err != nil:
		return fmt.Errorf("copy the program: %w", cause(err))
	case n > maxProgram:
		return &smartcred.ConfigError{Option: pathOption, Problem: fmt.Sprintf("the program has more than %d bytes", maxProgram)}
	}
	if sum := hex.EncodeToString(h.Sum(nil)); hash != "" && !strings.EqualFold(sum, hash) {
		return &smartcred.ConfigError{Option: "sha256", Problem: "is not that of the program, which has " + sum + ": find out who changed it"}
	}
	return nil
}

// privateCopy copies f into a folder that only this user can enter.
func privateCopy(f io.Reader, name, hash string) (_ *pinned, err error) {
	dir, err := os.MkdirTemp("", "smartcred-plugin-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the program: %w", cause(err))
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	real, err := trustedpath.Resolve(pathOption, dir)
	if err != nil {
		return nil, err
	}
	p := &pinned{path: filepath.Join(real, name), dir: dir}
	out, err := os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o500)
	if err != nil {
		return nil, fmt.Errorf("copy the program: %w", cause(err))
	}
	err = hashed(out, f, hash)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return p, err
}

// Close gives the copy up.
func (p *pinned) Close() error {
	if p.file != nil {
		return p.file.Close()
	}
	return os.RemoveAll(p.dir)
}

func pathProblem(problem string, err error) error {
	return &smartcred.ConfigError{Option: pathOption, Problem: problem, Err: cause(err)}
}

// cause is err without fs.PathError's own mention of the path.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
