package pluginmain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// maxTargets is how many are kept open: the parent asks for one.
const maxTargets = 16

// A target is what is open for one path with its options.
type target struct {
	open   chan struct{} // holds a token while it is being opened
	signer signer.Signer
	source secretsource.Source

	mu   sync.Mutex
	keys map[string]signer.Key // of the last list, by version
}

func (s *server) signer(ctx context.Context, req *wire.Request) (*target, error) {
	t, err := s.target(ctx, wire.RoleSigner, req)
	if err != nil {
		return nil, err
	}
	defer t.release()
	if t.signer == nil {
		opened, err := s.plugin.Signer(ctx, uri(req), &signer.OpenOptions{
			Algorithm: signer.Algorithm(req.ConfiguredAlgorithm), PublishFor: time.Duration(req.PublishSeconds) * time.Second,
		})
		if err != nil { // then opened may be a nil pointer in an interface
			return nil, err
		}
		t.signer = opened
	}
	return t, nil
}

// list reads the keys, and remembers what they are for signing.
func (t *target) list(ctx context.Context) ([]signer.Key, error) {
	keys, err := t.signer.Keys(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]signer.Key, len(keys))
	for _, k := range keys {
		known[k.Version] = k
	}
	t.mu.Lock()
	t.keys = known
	t.mu.Unlock()
	return keys, nil
}

// key returns the key of a version. The backend is asked only for one that no
// list has had: the parent verifies each signature under the public half that it
// knows.
func (t *target) key(ctx context.Context, version string) (signer.Key, error) {
	if k, ok := t.known(version); ok {
		return k, nil
	}
	if _, err := t.list(ctx); err != nil {
		return signer.Key{}, err
	}
	if k, ok := t.known(version); ok {
		return k, nil
	}
	return signer.Key{}, fmt.Errorf("key version %q: %w", version, smartcred.ErrNotFound)
}

func (t *target) known(version string) (signer.Key, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.keys[version]
	return k, ok
}

func (s *server) source(ctx context.Context, req *wire.Request) (secretsource.Source, error) {
	t, err := s.target(ctx, wire.RoleSource, req)
	if err != nil {
		return nil, err
	}
	defer t.release()
	if t.source == nil {
		opened, err := s.plugin.Source(ctx, uri(req), &secretsource.OpenOptions{})
		if err != nil {
			return nil, err
		}
		t.source = opened
	}
	return t.source, nil
}

// target returns what is open in a role for a request, for its caller alone until
// it is released.
func (s *server) target(ctx context.Context, role string, req *wire.Request) (*target, error) {
	name := role + " " + req.Path
	if len(req.Options) > 0 {
		name = role + "?" + uri(req).String()
	}
	s.mu.Lock()
	t := s.targets[name]
	if t == nil && len(s.targets) < maxTargets {
		t = &target{open: make(chan struct{}, 1)}
		s.targets[name] = t
	}
	s.mu.Unlock()
	if t == nil {
		return nil, &smartcred.ConfigError{Problem: "too many paths and options for one process"}
	}
	select {
	case t.open <- struct{}{}:
		return t, nil
	default: // it is being opened
	}
	select {
	case t.open <- struct{}{}:
		return t, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *target) release() { <-t.open }

func uri(req *wire.Request) *url.URL {
	query := url.Values{}
	for name, value := range req.Options {
		query.Set(name, value)
	}
	return &url.URL{Scheme: "plugin", Path: "/" + req.Path, RawQuery: query.Encode()}
}

// closeTargets is called when no request runs any more.
func (s *server) closeTargets() error {
	var errs []error
	for _, t := range s.targets {
		for _, opened := range []any{t.signer, t.source} {
			if c, ok := opened.(io.Closer); ok {
				errs = append(errs, c.Close())
			}
		}
	}
	return errors.Join(errs...)
}
