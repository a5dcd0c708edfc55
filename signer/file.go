package signer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
	"github.com/smartcred/smartcred/secretsource"
)

// FileOptions configure a [FileSigner]. The zero value and nil are the safe defaults.
type FileOptions struct {
	// Dir is the folder that a relative path counts from; empty: the working directory.
	Dir string
	// Passphrase is asked for the passphrase of encrypted keys: current, then
	// previous. Whoever opened it closes it.
	Passphrase secretsource.Source
	// Algorithm is what the keys sign with; empty: RS384 or ES384, as the key is.
	Algorithm Algorithm
	// InsecurePermissions accepts key files that others can read, with an event.
	InsecurePermissions bool
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// A FileSigner is a [Signer] with keys from files: PEM, JWK or JWK Set. The key
// at path is current; path.next holds one that is published and signs only when
// it is moved to path, or once a server refuses the others; path.previous holds
// the one that was current before. Both may be missing.
//
// PEM is one private key as PKCS#1, PKCS#8, SEC1 or encrypted PKCS#8 (PBES2 with
// AES-CBC), with text, certificates or public keys around it; a certificate's
// key is not compared with it. A JWK or JWK Set is read strictly; of a set,
// members that can't sign are left out with an event. RSA keys have 2048 to 8192
// bits; a JWK without p, q, dp, dq and qi is taken up to 4096.
//
// Keys reads the files each time, and Sign looks whether its file was replaced or
// removed: a replacement by rename and the links that Kubernetes moves count at
// once. Only the parsing of unchanged content is saved. A current file that is
// missing or malformed is looked at again after a second before that counts. A
// next or previous file that can't be used is left out with an event; it never
// takes the current key down.
type FileSigner struct {
	path     string
	opts     FileOptions
	observer smartcred.Observer
	owned    io.Closer // the passphrase source, where it was opened here

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error

	loaded  atomic.Pointer[loadedFiles]
	loading chan struct{} // holds a token while the files are read

	reportedMu sync.Mutex
	reported   map[string]string // what was left out last, and why
}

// The files, in the order in which their keys are listed.
const (
	nextFile = iota
	currentFile
	previousFile
)

var suffixes = [...]string{nextFile: ".next", currentFile: "", previousFile: ".previous"}

type loadedFiles struct {
	files [len(suffixes)]*loadedFile // nil: not there or not usable
	keys  []fileKey
}

// A loadedFile is a file's parsed content.
type loadedFile struct {
	info    fs.FileInfo // nil: it changed while it was read
	sum     [sha256.Size]byte
	keys    []localKey
	leftOut []leftOutKey
}

// A missingError is a file that is not there.
type missingError struct{ error }

func (e missingError) Unwrap() error { return e.error }

type fileKey struct {
	localKey
	file int
}

var _ Signer = (*FileSigner)(nil)

// File returns a FileSigner for the key at path. It reads nothing yet.
func File(path string, opts *FileOptions) (*FileSigner, error) {
	var o FileOptions
	if opts != nil {
		o = *opts
	}
	var err error
	switch {
	case path == "":
		err = &smartcred.ConfigError{Option: "signer", Problem: "the path of the key file is empty"}
	case o.Algorithm != "" && o.Algorithm.Hash() == 0:
		err = unsupported("no such algorithm here; there are RS384, ES384, RS256, RS512, PS384, ES256")
	}
	if err != nil {
		return nil, fmt.Errorf("signer: open key file: %w", err)
	}
	return &FileSigner{
		path: securefile.Resolve(o.Dir, path), opts: o, observer: securefile.Once(o.Observer),
		loading: make(chan struct{}, 1), reported: map[string]string{},
	}, nil
}

// Keys implements [Signer].
func (f *FileSigner) Keys(ctx context.Context) ([]Key, error) {
	loaded, err := f.load(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("signer: list keys: %w", err)
	}
	keys := make([]Key, len(loaded.keys))
	for i, k := range loaded.keys {
		keys[i] = k.key
	}
	return keys, nil
}

// Sign implements [Signer].
func (f *FileSigner) Sign(ctx context.Context, key Key, signingInput []byte) ([]byte, error) {
	k, err := f.find(ctx, key.Version)
	if err != nil {
		return nil, fmt.Errorf("signer: sign with key %q: %w", key.ID, err)
	}
	var sig []byte
	if key.Algorithm != k.key.Algorithm {
		err = otherAlgorithm(key, k.key)
	} else {
		sig, err = signLocally(k.private(), k.key, signingInput)
	}
	if err != nil {
		return nil, fmt.Errorf("signer: sign with key %q: %w", key.ID, err)
	}
	return sig, nil
}

// Close refuses further use and closes the passphrase source where [Open] opened
// it. A second call returns what the first did.
func (f *FileSigner) Close() error {
	f.closeOnce.Do(func() {
		f.closed.Store(true)
		f.loaded.Store(nil)
		if f.owned != nil {
			f.closeErr = f.owned.Close()
		}
	})
	return f.closeErr
}

// find returns the key of a version, if its file is still the one that was read
// or, when read again, still holds it.
func (f *FileSigner) find(ctx context.Context, version string) (fileKey, error) {
	if err := ctx.Err(); err != nil {
		return fileKey{}, err
	}
	if loaded := f.loaded.Load(); loaded != nil && !f.closed.Load() {
		if k, ok := loaded.find(version); ok && loaded.files[k.file].isStill(f.path+suffixes[k.file]) {
			return k, nil
		}
	}
	loaded, err := f.load(ctx, true)
	if err != nil {
		return fileKey{}, err
	}
	k, ok := loaded.find(version)
	if !ok {
		return fileKey{}, fmt.Errorf("version %q: %w in %s", version, smartcred.ErrNotFound, f.path)
	}
	return k, nil
}

func (l *loadedFiles) find(version string) (fileKey, bool) {
	for _, k := range l.keys {
		if k.key.Version == version {
			return k, true
		}
	}
	return fileKey{}, false
}

// isStill reports whether the file at path is the one that was read.
func (l *loadedFile) isStill(path string) bool {
	info, err := os.Stat(path)
	return err == nil && l.info != nil && same(info, l.info)
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// load reads the files; if twice, what is missing or malformed counts only after
// a second look.
func (f *FileSigner) load(ctx context.Context, twice bool) (*loadedFiles, error) {
	if !twice {
		return f.look(ctx, true)
	}
	return securefile.Twice(ctx, func(final bool) (*loadedFiles, error) { return f.look(ctx, final) }, func(err error) bool {
		return errors.As(err, new(missingError)) || errors.As(err, new(malformedError))
	})
}

// look reads the files, one caller at a time. When an answer is final, what was
// loaded before is dropped.
func (f *FileSigner) look(ctx context.Context, final bool) (*loadedFiles, error) {
	select {
	case f.loading <- struct{}{}:
		defer func() { <-f.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	loaded, err := f.loadOnce(ctx)
	if err == nil || final && ctx.Err() == nil && !errors.Is(err, smartcred.ErrUnavailable) {
		f.loaded.Store(loaded) // nil after an error: nothing keeps what is gone
	}
	if f.closed.Load() { // after the store, so that Close leaves nothing behind
		f.loaded.Store(nil)
		return nil, smartcred.ErrClosed
	}
	return loaded, err
}

// loadOnce reads next before current and previous after it: in that order a key
// that is moved on meanwhile is seen twice rather than not at all.
func (f *FileSigner) loadOnce(ctx context.Context) (*loadedFiles, error) {
	if f.closed.Load() {
		return nil, smartcred.ErrClosed
	}
	before := f.loaded.Load()
	if before == nil {
		before = &loadedFiles{}
	}
	loaded := &loadedFiles{}
	for i, suffix := range suffixes {
		file, err := f.read(ctx, f.path+suffix, before)
		switch {
		case err == nil:
			loaded.files[i] = file
			f.reportMembers(ctx, f.path+suffix, file)
		case i == currentFile || ctx.Err() != nil:
			return nil, err
		case errors.As(err, new(missingError)):
			f.report(ctx, f.path+suffix, "", nil)
		default:
			f.report(ctx, f.path+suffix, "", err)
		}
	}
	loaded.collect()
	return loaded, nil
}

// collect lists the keys. One that is in two files counts as current first, then
// as next: its owner moved it on.
func (l *loadedFiles) collect() {
	owner := map[string]int{}
	for _, i := range []int{currentFile, nextFile, previousFile} {
		if l.files[i] == nil {
			continue
		}
		for _, k := range l.files[i].keys {
			if _, taken := owner[k.key.Version]; !taken {
				owner[k.key.Version] = i
			}
		}
	}
	for i, file := range l.files {
		if file == nil {
			continue
		}
		for _, k := range file.keys {
			if owner[k.key.Version] != i {
				continue
			}
			if i == nextFile {
				k.key.NotBefore = Unscheduled
			}
			l.keys = append(l.keys, fileKey{localKey: k, file: i})
		}
	}
}

// read returns the parsed file at path. Content that one of the files had before
// is not parsed again: checking an RSA key takes longer than signing with it.
func (f *FileSigner) read(ctx context.Context, path string, before *loadedFiles) (*loadedFile, error) {
	info, _ := os.Stat(path)
	data, err := securefile.Read(ctx, path, securefile.Options{
		Private: true, InsecurePermissions: f.opts.InsecurePermissions, Observer: f.observer,
	})
	if errors.Is(err, smartcred.ErrNotFound) {
		return nil, missingError{err}
	}
	if err != nil {
		return nil, err
	}
	if after, err := os.Stat(path); err != nil || info == nil || !same(info, after) {
		info = nil
	}
	file := &loadedFile{info: info, sum: sha256.Sum256(data)}
	for _, b := range before.files {
		if b != nil && b.sum == file.sum {
			file.keys, file.leftOut = b.keys, b.leftOut
		}
	}
	encrypted := false
	if file.keys == nil {
		file.keys, file.leftOut, err = parseKeyFile(ctx, data, f.opts.Algorithm, func(ctx context.Context) ([][]byte, error) {
			encrypted = true
			return f.passphrases(ctx)
		})
		if err != nil {
			return nil, fmt.Errorf("key file %s: %w", path, err)
		}
	} else {
		encrypted = file.keys[0].encrypted
	}
	kind := "private key file"
	if encrypted {
		kind = "encrypted private key file"
	}
	keys := make([]localKey, len(file.keys))
	for i, k := range file.keys {
		k.encrypted = encrypted
		k.key.Custody = Custody{Level: CustodyExportable, Evidence: fmt.Sprintf("%s %s, read into this process", kind, path)}
		keys[i] = k
	}
	file.keys = keys
	return file, nil
}

func (f *FileSigner) passphrases(ctx context.Context) ([][]byte, error) {
	if f.opts.Passphrase == nil {
		return nil, nil
	}
	current, err := f.opts.Passphrase.Lookup(ctx, secretsource.Current)
	if err != nil {
		return nil, fmt.Errorf("look up passphrase: %w", err)
	}
	tries := [][]byte{current.Reveal()}
	// A passphrase that was changed just now may not have reached every file.
	if previous, err := f.opts.Passphrase.Lookup(ctx, secretsource.Previous); err == nil {
		tries = append(tries, previous.Reveal())
	}
	return tries, nil
}

func (f *FileSigner) reportMembers(ctx context.Context, path string, file *loadedFile) {
	f.report(ctx, path, "", nil)
	for _, l := range file.leftOut {
		f.report(ctx, path, l.name, l.why)
	}
}

// report tells of what is left out of a file, or of a whole file, when the reason
// changes; a nil why forgets it.
func (f *FileSigner) report(ctx context.Context, path, member string, why error) {
	subject := path + "\x00" + member
	f.reportedMu.Lock()
	known := f.reported[subject]
	if why == nil {
		delete(f.reported, subject)
	} else {
		f.reported[subject] = why.Error()
	}
	f.reportedMu.Unlock()
	if why == nil || known == why.Error() {
		return
	}
	detail := "the file can't be used"
	if member != "" {
		detail = "a member of the JWK Set can't sign"
	}
	smartcred.Notify(ctx, f.observer, smartcred.Event{
		Kind: smartcred.EventKeyLeftOut, KeyID: member, Backend: "file:" + path, Detail: detail, Err: why,
	})
}
