package program

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/smartcred/smartcred/plugins/program/internal/deadline"
)

// A pipe is our end of one of the program's, whose reading or writing contexts
// interrupt. One goroutine at a time reads or writes it.
type pipe struct {
	*os.File
	setDeadline func(time.Time) error

	mu    sync.Mutex
	armed time.Time // the file's deadline
	last  time.Time // no deadline is later; zero: none
}

// aLongTimeAgo as a deadline interrupts what waits for the file.
var aLongTimeAgo = time.Unix(1, 0)

// wait makes the end of ctx, which has a deadline, interrupt the file until stop is
// called. It may be interrupted for less: then [pipe.arm] is called again.
func (p *pipe) wait(ctx context.Context) (stop func() bool) {
	return deadline.AfterCancel(ctx, func() { p.set(aLongTimeAgo) })
}

// arm readies the file to wait until at, or shorter, and reports whether it may be
// waited for. What else ends the waiting must be looked at after it.
func (p *pipe) arm(at time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last.IsZero() {
		if !now.Before(p.last) {
			return false
		}
		if p.last.Before(at) {
			at = p.last
		}
	}
	// A deadline costs more than to be woken early once in a while.
	if p.armed.After(at) || !now.Before(p.armed) {
		p.armed = at
		_ = p.setDeadline(at)
	}
	return true
}

func (p *pipe) set(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = at
	_ = p.setDeadline(at)
}

// endBy makes the file wait no longer than until last, whoever waits.
func (p *pipe) endBy(last time.Time) {
	p.mu.Lock()
	p.last = last
	p.mu.Unlock()
	p.set(last)
}

// writeAll writes a line. It returns ctx's error if that ends before all of it
// is written, and how much is.
func (p *pipe) writeAll(ctx context.Context, line []byte) (written int, err error) {
	defer p.wait(ctx)()
	at, _ := ctx.Deadline()
	for {
		p.arm(at)
		if err := ctx.Err(); err != nil {
			return written, err
		}
		n, err := p.Write(line[written:])
		written += n
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
	}
}
