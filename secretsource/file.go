package secretsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
)

const (
	filePrevious = ".previous"
	secondLook   = time.Second
)

// File returns a Source that reads the file at path, and path.previous for the
// previous secret, at every look-up: a file replaced by a rename and the links
// that Kubernetes moves are seen at once. A relative path counts from opts.Dir.
//
// One newline at the end (LF or CRLF) does not belong to the secret. An empty
// file, one of more than 1 MiB, and one that group or others can write or
// others can read are [smartcred.ErrInvalidConfig]. The last is accepted with
// an event where opts.InsecurePermissions is set, and in a Kubernetes secret
// volume.
//
// A current file that is missing or empty is looked at again after a second, so
// that one that is being replaced by other means than a rename does not count
// as revoked.
func File(path string, opts *OpenOptions) Source {
	f := &file{newSecret: opts.maker(), options: securefile.Options{Private: true}}
	if opts == nil {
		opts = &OpenOptions{}
	}
	f.path = securefile.Resolve(opts.Dir, path)
	f.options.InsecurePermissions = opts.InsecurePermissions
	f.options.Observer = securefile.Once(opts.Observer)
	return f
}

type file struct {
	path      string
	options   securefile.Options
	newSecret func([]byte) Secret
}

func (f *file) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	switch stage {
	case Current:
		s, err := f.read(ctx, f.path)
		if !errors.Is(err, smartcred.ErrNotFound) && !errors.Is(err, errEmpty) {
			return s, err
		}
		again := time.NewTimer(secondLook)
		defer again.Stop()
		select {
		case <-again.C:
			return f.read(ctx, f.path)
		case <-ctx.Done():
			return Secret{}, ended(ctx, stage)
		}
	case Previous:
		return f.read(ctx, f.path+filePrevious)
	default:
		return Secret{}, noStage("file", stage)
	}
}

func (f *file) read(ctx context.Context, path string) (Secret, error) {
	data, err := securefile.Read(ctx, path, f.options)
	if err != nil {
		return Secret{}, fmt.Errorf("secretsource: %w", err)
	}
	value := trimNewline(data)
	if len(value) == 0 {
		return Secret{}, emptyValue("read " + path)
	}
	return f.newSecret(value), nil
}

// trimNewline returns data without one LF or CRLF at its end.
func trimNewline(data []byte) []byte {
	if rest, ok := bytes.CutSuffix(data, []byte("\n")); ok {
		return bytes.TrimSuffix(rest, []byte("\r"))
	}
	return data
}

func openFile(_ context.Context, uri *url.URL, opts *OpenOptions) (Source, error) {
	if _, err := CheckQuery(uri); err != nil {
		return nil, err
	}
	path, err := filePath(uri)
	if err != nil {
		return nil, err
	}
	return withField(File(path, opts), uri), nil
}

// filePath returns the path that a file URI names (RFC 8089), which may be
// relative: file:path.
func filePath(uri *url.URL) (string, error) {
	path := uri.Path
	if uri.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(uri.Opaque); err != nil {
			path = ""
		}
	}
	if path == "" || uri.User != nil || uri.Host != "" && uri.Host != "localhost" {
		return "", &smartcred.ConfigError{Problem: "not of the form file:///absolute/path or file:relative/path, percent-encoded"}
	}
	// file:///C:/dir has the path /C:/dir.
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	return filepath.FromSlash(path), nil
}
