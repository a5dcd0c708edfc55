// Package flight runs one call for any number of callers. The call is detached
// from the caller that started it; every caller waits on its own context only.
package flight

import (
	"context"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
)

// A Flight has at most one [Call] in the air. The zero value is ready for use;
// it must not be copied.
type Flight[T any] struct {
	mu     sync.Mutex
	call   *Call[T]
	cancel context.CancelCauseFunc
	closed bool
}

// A Call is one run of a function, shared by its callers.
type Call[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// Start joins the call in the air, or starts fn. The context that fn gets keeps
// ctx's values but not its cancellation; it ends after timeout, or at Close.
func (f *Flight[T]) Start(ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) *Call[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.call != nil {
		return f.call
	}
	call := &Call[T]{done: make(chan struct{})}
	if f.closed {
		call.err = smartcred.ErrClosed
		close(call.done)
		return call
	}
	detached, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f.call, f.cancel = call, cancel
	go func() {
		timed, stop := context.WithTimeout(detached, timeout)
		defer stop()
		defer cancel(nil)
		call.value, call.err = fn(timed)
		if context.Cause(detached) == smartcred.ErrClosed {
			call.err = smartcred.ErrClosed
		}
		f.mu.Lock()
		f.call, f.cancel = nil, nil
		f.mu.Unlock()
		close(call.done)
	}()
	return call
}

// Do is Start and Wait.
func (f *Flight[T]) Do(ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	return f.Start(ctx, timeout, fn).Wait(ctx)
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

// Close cancels the call in the air, whose callers get [smartcred.ErrClosed] as
// soon as the function returns, and refuses further ones.
func (f *Flight[T]) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.cancel != nil {
		f.cancel(smartcred.ErrClosed)
	}
}
