// Package deadline gives contexts a deadline whose timer starts only when somebody
// waits for it. A request that is answered at once then costs no timer.
package deadline

import (
	"context"
	"sync"
	"time"
)

// A lazy context has a deadline of its own.
type lazy struct {
	context.Context // that it was made from
	at              time.Time

	mu     sync.Mutex
	err    error           // as Err first said
	ended  bool            // by its cancel function
	timed  context.Context // once somebody waits: ends as this one does
	cancel context.CancelFunc
}

// WithTimeout is [context.WithTimeout], but for the timer.
func WithTimeout(parent context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	at := time.Now().Add(timeout)
	if sooner, ok := parent.Deadline(); ok && sooner.Before(at) {
		at = sooner
	}
	c := &lazy{Context: parent, at: at}
	return c, c.end
}

func (c *lazy) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// wait returns the context that ends as c does, with its timer running.
func (c *lazy) wait() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(c.Context, c.at)
		if c.ended {
			c.cancel()
		}
	}
	return c.timed
}

// Deadline implements [context.Context].
func (c *lazy) Deadline() (time.Time, bool) { return c.at, true }

// Done implements [context.Context].
func (c *lazy) Done() <-chan struct{} { return c.wait().Done() }

// Err implements [context.Context].
func (c *lazy) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = c.judge()
	}
	return c.err
}

func (c *lazy) judge() error {
	switch {
	case c.timed != nil:
		return c.timed.Err()
	case c.Context.Err() != nil:
		return c.Context.Err()
	case c.ended:
		return context.Canceled
	case !time.Now().Before(c.at):
		return context.DeadlineExceeded
	}
	return nil
}

// AfterFunc is what [context.AfterFunc] and contexts made from c use, instead of a
// goroutine.
func (c *lazy) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.wait(), f) }

// AfterCancel runs f in its own goroutine when ctx ends, as [context.AfterFunc]
// does, but not when the deadline of a context made here passes: who looks at the
// clock needs no timer.
func AfterCancel(ctx context.Context, f func()) (stop func() bool) {
	if c, ok := ctx.(*lazy); ok {
		ctx = c.Context
	}
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, f)
}
