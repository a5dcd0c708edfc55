//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const connectPause = time.Second // between a connecting that failed and the next

// A Signer signs with keys of a token. It is safe for concurrent use.
type Signer struct {
	opts   Options
	module *module
	owned  io.Closer // the PIN source, where it was opened here

	connection atomic.Pointer[connection]
	connecting flight.Flight[*connection]
	calls      flight.Gate // of the library
	closed     atomic.Bool
	closeOnce  sync.Once
	closeErr   error

	mu       sync.Mutex
	failure  error // of the last connecting, which is not repeated at once
	failed   time.Time
	reported map[string]string // why keys are left out
	settled  string            // thumbprint of the only key without a date, once there was one
}

var _ signer.Signer = (*Signer)(nil)

func init() { signer.Register(scheme, openURI) }

func openURI(ctx context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
	o, pinSource, err := parseURI(u)
	if err != nil {
		return nil, err
	}
	o.Algorithm, o.Observer = opts.Algorithm, opts.Observer
	if pinSource != "" {
		if o.PIN, err = secretsource.Open(ctx, pinSource, &opts.OpenOptions); err != nil {
			return nil, &smartcred.ConfigError{Option: "pin-source", Problem: "can't be opened", Err: err}
		}
	}
	owned, _ := o.PIN.(io.Closer)
	s, err := open(o)
	if err != nil {
		if owned != nil {
			err = errors.Join(err, owned.Close())
		}
		return nil, err
	}
	s.owned = owned
	return s, nil
}

// New returns a Signer with keys of a token. It checks and loads the library and
// asks it for nothing yet: the token, the PIN and the keys show at first use.
func New(opts *Options) (*Signer, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	s, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("pkcs11: open: %w", err)
	}
	return s, nil
}

func open(o Options) (*Signer, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	path, err := checkModule(o.Module)
	if err != nil {
		return nil, err
	}
	m, err := loadModule(path)
	if err != nil {
		return nil, err
	}
	return &Signer{opts: o, module: m, reported: map[string]string{}}, nil
}

// Reset forgets which PINs this process saw the library's tokens refuse, so that
// they are tried once more: after a PIN was corrected on the token's side.
func (s *Signer) Reset() {
	s.module.pins.forget()
	s.fail(nil)
}

// Close ends the sessions, with the last of them the login, and the library where
// no other Signer uses it. It waits for calls under way for 5 seconds; where one
// hangs, what it holds stays, and Close says so. A second call returns what the
// first did.
func (s *Signer) Close() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		connecting, calls := s.connecting.Shut(), s.calls.Shut()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			<-connecting
			<-calls
			if c := s.connection.Swap(nil); c != nil {
				c.end()
			}
			s.module.release()
		}()
		flight.Land(ended)
		select {
		case <-ended:
		default:
			s.closeErr = fmt.Errorf("pkcs11: close: %w", &smartcred.UnavailableError{Err: fmt.Errorf("a call in the library has not returned after %s", flight.CloseWait)})
		}
		if s.owned != nil {
			s.closeErr = errors.Join(s.closeErr, s.owned.Close())
		}
	})
	return s.closeErr
}

// run calls fn in the library with a session, once more after the connection was
// lost. The caller's context ends its wait, not the call.
func run[T any](ctx context.Context, s *Signer, fn func(*connection, cryptoki.SessionHandle) (T, error)) (T, error) {
	for again := true; ; again = false {
		value, c, err := runOnce(ctx, s, fn)
		if err == nil || c == nil || ctx.Err() != nil || !errors.Is(err, errLost) && !isOne(err, lost) {
			return value, err
		}
		s.drop(c)
		if !again {
			if errors.Is(err, errLost) && !errors.Is(err, smartcred.ErrUnavailable) {
				err = &smartcred.UnavailableError{Err: err}
			}
			return value, err
		}
	}
}

// runOnce also returns the connection that was used, if there was one.
func runOnce[T any](ctx context.Context, s *Signer, fn func(*connection, cryptoki.SessionHandle) (T, error)) (T, *connection, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, nil, err
	}
	if s.closed.Load() {
		return none, nil, smartcred.ErrClosed
	}
	c, err := s.connected(ctx)
	if err != nil {
		return none, nil, err
	}
	session, err := c.take(ctx)
	if err != nil {
		return none, c, err
	}
	if !s.calls.Enter() {
		c.idle <- session
		return none, nil, smartcred.ErrClosed
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		defer s.calls.Leave()
		var a answer
		a.err = c.use(ctx, session, func(session cryptoki.SessionHandle) (err error) {
			a.value, err = fn(c, session)
			return err
		})
		answers <- a
	}()
	select {
	case a := <-answers:
		return a.value, c, a.err
	case <-ctx.Done():
		return none, c, ctx.Err()
	}
}

// connected returns the connection, or makes one for all callers.
func (s *Signer) connected(ctx context.Context) (*connection, error) {
	if c := s.connection.Load(); c != nil {
		return c, nil
	}
	return s.connecting.Do(ctx, s.opts.Timeout, func(ctx context.Context) (*connection, error) {
		if c := s.connection.Load(); c != nil {
			return c, nil
		}
		if err := s.lately(); err != nil {
			return nil, err
		}
		c, err := s.connect(ctx)
		switch {
		case err == nil:
			s.connection.Store(c)
		case errors.Is(ctx.Err(), context.DeadlineExceeded): // of the flight, which is no caller's
			err = &smartcred.UnavailableError{Err: fmt.Errorf("connecting to the token took over %s", s.opts.Timeout)}
		case ctx.Err() == nil:
			s.fail(err)
		}
		return c, err
	})
}

// lately returns why connecting failed, if that was within connectPause: the PIN
// source and the library are not asked by every caller.
func (s *Signer) lately() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil || time.Since(s.failed) >= connectPause {
		return nil
	}
	return s.failure
}

func (s *Signer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure, s.failed = err, time.Now()
}

// drop ends a connection that was lost. Nobody waits for that: to close sessions
// is a call in the library, too.
func (s *Signer) drop(c *connection) {
	if !s.connection.CompareAndSwap(c, nil) || !s.calls.Enter() {
		return
	}
	go func() {
		defer s.calls.Leave()
		c.end()
	}()
}
