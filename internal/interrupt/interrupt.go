// Package interrupt ends a command's work when a signal comes.
package interrupt

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Context returns a context that SIGINT and SIGTERM end, with the [Signal] as its
// cause. A second signal ends the process at once. stop ends the watch.
func Context(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(Signal{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// A Signal is what ended a context.
type Signal struct{ os.Signal }

// Error implements error.
func (s Signal) Error() string { return fmt.Sprintf("ended by signal: %s", s.Signal) }

// Status is the exit status that shells give: 128 and the signal's number.
func (s Signal) Status() int {
	number, _ := s.Signal.(syscall.Signal)
	return 128 + int(number)
}
