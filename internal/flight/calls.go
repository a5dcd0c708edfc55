package flight

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
)

// ErrTimeout is why a call ended whose time, not its caller's, was up.
var ErrTimeout = errors.New("no answer in time")

// Calls are the calls of one backend, which its Close ends. The zero value is
// ready for use; it must not be copied.
type Calls struct {
	mu      sync.Mutex
	gate    Gate
	closed  bool
	cancels map[*context.CancelCauseFunc]struct{}
	once    sync.Once
}

// Begin returns the context of a call, which ends after timeout (0: never) and at
// Close, and what ends the call; [smartcred.ErrClosed] after Close, and ctx's error if that
// has ended.
func (c *Calls) Begin(ctx context.Context, timeout time.Duration) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.gate.Enter() {
		return nil, nil, smartcred.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		c.gate.Leave()
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.CancelFunc(func() {})
	if timeout > 0 {
		ctx, stop = context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	}
	if c.cancels == nil {
		c.cancels = map[*context.CancelCauseFunc]struct{}{}
	}
	c.cancels[&cancel] = struct{}{}
	return ctx, func() {
		stop()
		cancel(nil)
		c.mu.Lock()
		delete(c.cancels, &cancel)
		c.mu.Unlock()
		c.gate.Leave()
	}, nil
}

// Close refuses calls, ends those under way and waits for them, then runs after.
// A second call does nothing.
func (c *Calls) Close(after func()) {
	c.once.Do(func() {
		c.mu.Lock()
		c.closed = true
		for cancel := range c.cancels {
			(*cancel)(smartcred.ErrClosed)
		}
		ended := c.gate.Shut()
		c.mu.Unlock()
		Land(ended)
		if after != nil {
			after()
		}
	})
}

// Ended says why the context of a call has ended; nil if it has not. A time-out,
// the call's or its caller's, is [smartcred.ErrUnavailable].
func Ended(ctx context.Context) error {
	switch cause, err := context.Cause(ctx), ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(cause, smartcred.ErrClosed):
		return smartcred.ErrClosed
	case errors.Is(err, context.DeadlineExceeded):
		return &smartcred.UnavailableError{Err: fmt.Errorf("%w: %w", ErrTimeout, err)}
	default:
		return err
	}
}
