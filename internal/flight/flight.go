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
	closed bool
}

// Start joins the call in the air, or launches fn, see [Launch]. After Close it
// returns a call that is done: [smartcred.ErrClosed].
func (f *Flight[T]) Start(ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) *Call[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.call != nil {
		return f.call
	}
	if f.closed {
		call := &Call[T]{done: make(chan struct{}), err: smartcred.ErrClosed}
		close(call.done)
		return call
	}
	f.call = Launch(ctx, timeout, func(ctx context.Context) (T, error) {
		defer f.settle()
		return fn(ctx)
	})
	return f.call
}

func (f *Flight[T]) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.call = nil
}

// Do is Start and Wait.
func (f *Flight[T]) Do(ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	return f.Start(ctx, timeout, fn).Wait(ctx)
}

// Shut refuses further calls and cancels the one in the air, whose callers get
// [smartcred.ErrClosed]. What it returns is closed when that call has ended.
func (f *Flight[T]) Shut() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.call == nil {
		return landed
	}
	f.call.Cancel()
	return f.call.Done()
}

// Close is Shut, and waits for the call in the air, see [Land].
func (f *Flight[T]) Close() { Land(f.Shut()) }

// landed is closed.
var landed = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
