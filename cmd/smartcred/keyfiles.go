package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// The files of one key's life: those that signer.FileSigner and
// secretsource.File read.
const (
	suffixNext     = ".next"
	suffixPrevious = ".previous"
)

// filePath returns the path that a file URI names, with its folder, and whether
// the URI is one.
func (s *settings) filePath(option, uri string) (string, bool) {
	u, err := url.Parse(uri)
	if err != nil || !strings.EqualFold(u.Scheme, "file") {
		return "", false
	}
	path := u.Path
	if u.Opaque != "" {
		if path, err = url.PathUnescape(u.Opaque); err != nil {
			return "", false
		}
	}
	return securefile.Resolve(s.dirs[option], filepath.FromSlash(path)), path != ""
}

// keyPath returns the path of the signer's current key.
func (s *settings) keyPath() (string, error) {
	path, ok := s.filePath("signer", s.signer)
	if !ok {
		return "", &smartcred.ConfigError{Option: "signer", Problem: "does not keep its keys in files: they are made, moved and disabled there; revoked takes one out of use here"}
	}
	return path, nil
}

// query is what a URI says after its question mark.
func query(uri string) url.Values {
	u, err := url.Parse(uri)
	if err != nil {
		return nil
	}
	return u.Query()
}

// A keyFile is one of a file signer's files, whatever place its keys have.
type keyFile struct {
	path string
	info fs.FileInfo // nil: it is not there
	keys []signer.Key
}

// keyFile reads the signer's file with that suffix, by itself: through a link in
// a folder where no other file stands beside it.
func (o *session) keyFile(ctx context.Context, suffix string) (f keyFile, err error) {
	path, _ := o.filePath("signer", o.settings.signer)
	f.path = path + suffix
	f.info, err = os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	failed := func(err error) (keyFile, error) {
		return f, &provider.CredentialError{Op: "read " + f.path, Err: err}
	}
	if err != nil {
		return failed(err)
	}
	target, err := filepath.Abs(f.path)
	if err != nil {
		return failed(err)
	}
	dir, err := os.MkdirTemp("", "smartcred-")
	if err != nil {
		return failed(err)
	}
	defer os.RemoveAll(dir)
	link := filepath.Join(dir, "key")
	if err := os.Symlink(target, link); err != nil {
		return failed(err)
	}
	opts := o.openOptions("signer")
	opts.Observer = smartcred.Discard // what is to be said of a file was said when the signer was opened
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(link), RawQuery: query(o.settings.signer).Encode()}
	s, err := signer.Open(ctx, uri.String(), &signer.OpenOptions{OpenOptions: opts, Algorithm: o.algorithm})
	if err != nil {
		return failed(err)
	}
	defer closing(s)
	if f.keys, err = s.Keys(ctx); err != nil {
		return failed(err)
	}
	return f, nil
}

// has reports whether the file holds a key by that kid, version or thumbprint.
func (f keyFile) has(name string) bool {
	return slices.ContainsFunc(f.keys, func(k signer.Key) bool { return k.ID == name || k.Version == name })
}

// publishedSince is when the next key was put there; zero if there is none, or
// if the keys are not in files.
func (s *settings) publishedSince() time.Time {
	path, ok := s.filePath("signer", s.signer)
	if !ok {
		return time.Time{}
	}
	info, err := os.Stat(path + suffixNext)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// theCurrent returns the key that signs and, of those that are staged, the one
// in the next file; a zero key if there is none.
func (o *session) theCurrent(ctx context.Context) (current, next signer.Key, err error) {
	candidates, err := o.keys.Candidates(ctx, nil)
	if err != nil {
		return current, next, &provider.CredentialError{Op: "list keys", Err: err}
	}
	for _, c := range candidates {
		switch {
		case c.Role == signer.RoleNext && next.Public == nil:
			next = c.Key
		case c.Role == signer.RoleCurrent && current.Public == nil:
			current = c.Key
		}
	}
	return current, next, nil
}

// signOnTrial makes a signature that is verified and thrown away.
func (o *session) signOnTrial(ctx context.Context, key signer.Key) error {
	input := []byte("smartcred: a signature on trial, for nobody")
	sig, err := o.keys.Sign(ctx, key, input)
	if err == nil {
		err = signer.Verify(key, input, sig)
	}
	if err != nil {
		return &provider.CredentialError{Op: "sign on trial", Err: err}
	}
	return nil
}

// closing closes what can be closed.
func closing(v any) {
	if c, ok := v.(io.Closer); ok {
		_ = c.Close()
	}
}
