package flight

import (
	"context"
	"errors"
	"time"

	"github.com/smartcred/smartcred"
)

// CloseWait is how long closing waits for calls that ignore their context.
const CloseWait = 5 * time.Second

var errNoReturn = errors.New("the call ended without returning")

// A Call is one run of a function, shared by its callers.
type Call[T any] struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	value  T
	err    error
}

// Launch runs fn on a goroutine of its own. The context that fn gets keeps ctx's
// values but not its cancellation; it ends after timeout, or at [Call.Cancel].
// The call is done even if fn ends the goroutine ([runtime.Goexit]); a panic
// ends the program as anywhere else.
func Launch[T any](ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) *Call[T] {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	call := &Call[T]{cancel: cancel, done: make(chan struct{}), err: errNoReturn}
	go func() {
		defer close(call.done)
		defer cancel(nil)
		timed, stop := context.WithTimeout(ctx, timeout)
		defer stop()
		call.value, call.err = fn(timed)
		if context.Cause(ctx) == smartcred.ErrClosed {
			call.err = smartcred.ErrClosed
		}
	}()
	return call
}

// Wait returns what the call returns, or ctx's error if that ends first.
func (c *Call[T]) Wait(ctx context.Context) (T, error) {
	select {
	case <-c.done:
		return c.value, c.err
	default:
	}
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// Done is closed when the call has ended.
func (c *Call[T]) Done() <-chan struct{} { return c.done }

// Cancel ends the context of the call, whose callers get [smartcred.ErrClosed]
// as soon as the function returns.
func (c *Call[T]) Cancel() {
	if c.cancel != nil {
		c.cancel(smartcred.ErrClosed)
	}
}

// Land waits until everything in done is closed, for [CloseWait] at most in all.
func Land(done ...<-chan struct{}) {
	timeout := time.NewTimer(CloseWait)
	defer timeout.Stop()
	for _, d := range done {
		select {
		case <-d:
		case <-timeout.C:
			return
		}
	}
}
