package main

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/smartcred/smartcred"
)

// An outFile replaces a file in one step: readers see the old content or the
// new, never a part, and nobody but this user ever reads it.
type outFile struct {
	dir  *os.Root // held open, so that a folder that is moved changes nothing
	name string
	temp string
	file *os.File
}

// newOutFile makes a temporary file beside path, where all that could go wrong
// later but a full disk goes wrong now. What is at path must be a regular file,
// or nothing: a link would lead the token to a place nobody named.
func newOutFile(path string) (*outFile, error) {
	failed := func(err error) error {
		return &smartcred.ConfigError{Option: "--out", Problem: "the file can't be written", Err: err}
	}
	if path == "" || os.IsPathSeparator(path[len(path)-1]) {
		return nil, &smartcred.ConfigError{Option: "--out", Problem: "names no file"}
	}
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, failed(err)
	}
	o := &outFile{dir: dir, name: filepath.Base(path), temp: ".smartcred-" + rand.Text()}
	switch info, err := dir.Lstat(o.name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		o.discard()
		return nil, failed(err)
	case !info.Mode().IsRegular():
		o.discard()
		return nil, &smartcred.ConfigError{Option: "--out", Problem: "is a link, a folder or a device: name a regular file"}
	}
	o.file, err = dir.OpenFile(o.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		o.discard()
		return nil, failed(err)
	}
	return o, nil
}

// commit puts data in the place of the file, durably.
func (o *outFile) commit(data []byte) error {
	err := writeSync(o.file, data)
	o.file = nil
	if err == nil {
		err = o.dir.Rename(o.temp, o.name)
	}
	if err != nil {
		_ = o.dir.Remove(o.temp)
		return &smartcred.ConfigError{Option: "--out", Problem: "the file can't be written", Err: err}
	}
	syncFolder(o.dir)
	return nil
}

// discard drops what was not committed.
func (o *outFile) discard() {
	if o.file != nil {
		_ = o.file.Close()
		_ = o.dir.Remove(o.temp)
		o.file = nil
	}
	_ = o.dir.Close()
}

// writeSync writes data, waits for the disk, and closes f.
func writeSync(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder makes a new name last through a power failure, where the system
// can; the content is safe already.
func syncFolder(dir *os.Root) {
	if f, err := dir.Open("."); err == nil {
		_ = f.Sync()
		_ = f.Close()
	}
}
