package secretsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
	"github.com/smartcred/smartcred/internal/uri"
)

const filePrevious = ".previous"

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
		s, err := securefile.Twice(ctx, func(bool) (Secret, error) { return f.read(ctx, f.path) }, func(err error) bool {
			return errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, errEmpty)
		})
		if err != nil && err == ctx.Err() {
			err = ended(ctx, stage)
		}
		return s, err
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

func openFile(_ context.Context, u *url.URL, opts *OpenOptions) (Source, error) {
	if _, err := CheckQuery(u); err != nil {
		return nil, err
	}
	path, err := uri.FilePath(u)
	if err != nil {
		return nil, err
	}
	return withField(File(path, opts), u), nil
}
