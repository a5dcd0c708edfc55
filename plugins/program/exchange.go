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
	if req.TimeoutMS = time.Until(deadline).Milliseconds(); req.TimeoutMS <= 0 {
		return nil, context.DeadlineExceeded
	}
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
	for {
		select {
		case a := <-x.answer:
			return a.Answer, a.err
		case <-ctx.Done():
			p.leave(ctx, id)
			return nil, ctx.Err()
		case p.reading <- struct{}{}:
			p.read(ctx, x)
			<-p.reading
		}
	}
}

// write writes a line. A program that does not read it in time is ended: half a
// line may be on its way.
func (p *process) write(ctx context.Context, line []byte) error {
	select {
	case p.writing <- struct{}{}:
		defer func() { <-p.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	resume := interruptible(ctx, p.stdin.SetWriteDeadline)
	_, err := p.stdin.Write(line)
	resume(time.Time{})
	if err == nil {
		return nil
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

// interruptible makes ctx's end interrupt a file's reading or writing, until resume
// is called, which sets the deadline that holds then.
func interruptible(ctx context.Context, setDeadline func(time.Time) error) (resume func(time.Time)) {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = setDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	return func(deadline time.Time) {
		if !stop() {
			<-interrupted
			_ = setDeadline(deadline)
		}
	}
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
		p.mu.Lock()
		_ = p.stdout.SetReadDeadline(time.Now().Add(catchUpWait))
		p.mu.Unlock()
		p.readLines(func() bool { return true })
		p.mu.Lock()
		_ = p.stdout.SetReadDeadline(p.drainBy)
		p.mu.Unlock()
		<-p.reading
	default: // somebody reads
	}
}

// read takes answers until x has its own, ctx ends, or the output does.
func (p *process) read(ctx context.Context, x *exchange) {
	resume := interruptible(ctx, p.stdout.SetReadDeadline)
	p.readLines(func() bool { return len(x.answer) == 0 })
	p.mu.Lock()
	resume(p.drainBy)
	p.mu.Unlock()
	if len(p.partial) > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		p.end(errors.New("it did not end its line in time"))
	}
}

// readLines takes answers while more says so, until the output ends or is none of
// the protocol's, or a deadline passes. Its caller holds the token of reading.
func (p *process) readLines(more func() bool) {
	for more() {
		line, err := p.lines.ReadSlice('\n')
		if err != nil || len(p.partial) > 0 {
			if p.partial = append(p.partial, line...); len(p.partial) > wire.MaxLine {
				p.end(fmt.Errorf("it wrote a line of more than %d bytes", wire.MaxLine))
				return
			}
			line = p.partial
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
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
