package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/smartcred/smartcred/plugins/program/internal/wire"
)

// ask sends a request and waits for its answer. If it is the last one, the
// program's input ends after it.
func (p *process) ask(ctx context.Context, req *wire.Request, last bool) (*wire.Answer, error) {
	deadline, _ := ctx.Deadline() // the runner sets one
	left := time.Until(deadline)
	if left <= 0 {
		return nil, context.DeadlineExceeded
	}
	req.TimeoutMS = max(1, left.Milliseconds())
	x := &exchange{answer: make(chan answered, 1), asked: time.Now()}
	p.mu.Lock()
	if err := p.cause; err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if len(p.pending) >= maxUnanswered {
		p.mu.Unlock()
		p.end(errHung)
		return nil, errHung
	}
	p.nextID++
	req.ID = p.nextID
	p.pending[req.ID] = x
	p.mu.Unlock()

	line, err := req.Line()
	if err == nil {
		err = p.write(ctx, line)
	}
	if last {
		_ = p.stdin.Close()
	}
	if err != nil {
		p.mu.Lock()
		delete(p.pending, req.ID) // it was not sent
		p.mu.Unlock()
		select {
		case a := <-x.answer: // the program's end says more than a broken pipe
			return a.Answer, a.err
		default:
			return nil, err
		}
	}
	return p.await(ctx, req.ID, x)
}

// await returns the answer to x. Who waits reads: one at a time, for all others
// too, so that the answer to a single caller goes through no other goroutine.
func (p *process) await(ctx context.Context, id uint64, x *exchange) (*wire.Answer, error) {
	for ctx.Err() == nil {
		select {
		case a := <-x.answer:
			return a.Answer, a.err
		case p.reading <- struct{}{}:
			p.read(ctx, x)
			continue
		default: // another one reads
		}
		select {
		case a := <-x.answer:
			return a.Answer, a.err
		case p.reading <- struct{}{}:
			p.read(ctx, x)
		case <-ctx.Done():
		}
	}
	p.leave(ctx, id)
	return nil, ctx.Err()
}

// write writes a line. A program that does not read all of it in time is ended: a
// part is on its way.
func (p *process) write(ctx context.Context, line []byte) error {
	if err := take(ctx, p.writing); err != nil {
		return err
	}
	defer release(p.writing)
	written, err := p.stdin.writeAll(ctx, line)
	if err == nil || written == 0 && err == ctx.Err() {
		return err
	}
	if errors.Is(err, syscall.EPIPE) { // as a rule it has ended, and why says more
		timer := time.NewTimer(endWait)
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	p.end(errors.New("it does not read its requests"))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	<-p.done
	return p.reason()
}

// leave is called by who waits no longer. The answer may still come; if nothing
// does, the program hangs.
func (p *process) leave(ctx context.Context, id uint64) {
	wait := cancelWait
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		wait = overdueWait
	}
	time.AfterFunc(wait, func() {
		p.catchUp()
		p.mu.Lock()
		x := p.pending[id]
		hung := x != nil && !p.answered.After(x.asked)
		p.mu.Unlock()
		if hung {
			p.end(errHung)
		}
	})
}

// catchUp reads what the program has written while nobody waited.
func (p *process) catchUp() {
	select {
	case p.reading <- struct{}{}:
		by := time.Now().Add(catchUpWait)
		p.readLines(by, func() bool { return time.Now().Before(by) })
		<-p.reading
	default: // somebody reads
	}
}

// read takes answers until x has its own, ctx ends, or the output does. It gives
// the token of reading back.
func (p *process) read(ctx context.Context, x *exchange) {
	stop := p.stdout.wait(ctx)
	by, _ := ctx.Deadline()
	p.readLines(by, func() bool { return len(x.answer) == 0 && ctx.Err() == nil })
	stop()
	<-p.reading
}

// readLines takes answers while more says so, until the output ends or is none of
// the protocol's. It asks when by has come at the latest. Its caller holds the token
// of reading.
func (p *process) readLines(by time.Time, more func() bool) {
	for p.stdout.arm(by) && more() {
		line, err := p.lines.ReadSlice('\n')
		if err != nil || len(p.partial) > 0 {
			if p.partial = append(p.partial, line...); len(p.partial) > wire.MaxLine {
				p.end(fmt.Errorf("it wrote a line of more than %d bytes", wire.MaxLine))
				return
			}
			line = p.partial
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull), errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			p.end(errEnded)
			return
		}
		p.partial = nil
		if err := p.deliver(line); err != nil {
			p.end(err)
			return
		}
	}
}

// errEnded says that the output ended; reason has the exit status.
var errEnded = errors.New("it ended")

// deliver gives an answer to who waits for it.
func (p *process) deliver(line []byte) error {
	// The answer aliases its text, and the next line comes into the same buffer.
	a, err := wire.ParseAnswer(append([]byte(nil), line...))
	if err != nil {
		return fmt.Errorf("it broke the protocol: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.pending[a.ID]
	if x == nil {
		return errors.New("it broke the protocol: it answered what was not asked, or answered twice")
	}
	delete(p.pending, a.ID)
	p.answered = time.Now()
	x.answer <- answered{Answer: a}
	return nil
}
