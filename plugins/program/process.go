package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
)

const (
	endWait     = time.Second            // from the end of its input, for the program to end by itself
	drainWait   = 500 * time.Millisecond // from the program's end, for what is left in its pipes
	overdueWait = time.Second            // past a deadline that the program was told
	cancelWait  = 5 * time.Second        // past a cancellation, which it was not
	catchUpWait = 10 * time.Millisecond  // to read what is there
	busyWait    = 2 * time.Millisecond   // before a start is tried again, see isBusy
	maxBusy     = 50

	maxUnanswered = 1024 // requests, those that nobody waits for included
)

// errHung ends a program that let a request's deadline pass in silence.
var errHung = errors.New("it did not answer in time, nor anything since")

// A process is one run of the program. It ends when it is told to, when it
// breaks the protocol, and when it closes its output.
type process struct {
	cmd     *exec.Cmd
	stdin   *pipe
	stdout  *pipe
	started time.Time
	oneShot bool // it takes one request
	counted bool // as a failure; guarded by the runner's mu

	writing chan struct{} // holds a token while a request is written
	reading chan struct{} // holds a token while answers are read, and guards lines and partial
	lines   *bufio.Reader
	partial []byte // of a line whose rest is still to come

	mu       sync.Mutex
	nextID   uint64
	pending  map[uint64]*exchange
	cause    error     // why it ended or is made to end; nil while it serves
	answered time.Time // when it did last
	reaped   bool      // its number may be another's

	logged chan struct{} // closed when standard error has ended
	done   chan struct{} // closed when process and goroutines have ended
	exit   error         // of cmd.Wait, once done is closed
}

// An exchange is a request that waits for its answer.
type exchange struct {
	answer chan answered // has room for one
	asked  time.Time
}

type answered struct {
	*wire.Answer
	err error
}

// start runs the program. ctx's values serve for events; its end ends nothing.
func start(ctx context.Context, r *runner) (*process, error) {
	child, parent, err := pipes()
	if err != nil {
		return nil, fmt.Errorf("make pipes: %w", cause(err))
	}
	cmd, err := r.execute(ctx, child)
	closeAll(child[:]...)
	if err != nil {
		closeAll(parent[:]...)
		return nil, err
	}
	p := &process{
		cmd: cmd, started: time.Now(), lines: bufio.NewReaderSize(parent[1], 16<<10),
		stdin:   &pipe{File: parent[0], setDeadline: parent[0].SetWriteDeadline},
		stdout:  &pipe{File: parent[1], setDeadline: parent[1].SetReadDeadline},
		writing: make(chan struct{}, 1), reading: make(chan struct{}, 1),
		pending: map[uint64]*exchange{}, logged: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(p.logged)
		r.log.lines(context.WithoutCancel(ctx), parent[2])
	}()
	go p.reap(parent[2], r.ended)
	return p, nil
}

// pipes returns standard input, output and error, the child's ends and ours.
func pipes() (child, parent [3]*os.File, err error) {
	for i := range child {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(child[:i:i], parent[:i]...)...)
			return child, parent, err
		}
		child[i], parent[i] = w, r
		if i == 0 {
			child[i], parent[i] = r, w
		}
	}
	return child, parent, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// execute starts the pinned content.
func (r *runner) execute(ctx context.Context, stdio [3]*os.File) (*exec.Cmd, error) {
	for try := 1; ; try++ {
		cmd := &exec.Cmd{
			Path: r.pinned.path, Args: []string{r.argv0}, Env: r.env(), Dir: "/",
			Stdin: stdio[0], Stdout: stdio[1], Stderr: stdio[2],
		}
		if r.pinned.file != nil {
			cmd.ExtraFiles = []*os.File{r.pinned.file}
		}
		ownGroup(cmd)
		err := cmd.Start()
		if err == nil {
			return cmd, nil
		}
		if !isBusy(err) || try == maxBusy {
			err = fmt.Errorf("it can't be started: %w", cause(err))
			if isHopeless(err) {
				err = &smartcred.ConfigError{Option: pathOption, Problem: "is it a program for this machine, and is its interpreter there?", Err: err}
			}
			return nil, err
		}
		select {
		case <-time.After(busyWait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// end makes the program end, for the first cause that it is given: at once,
// unless it is only closed. Who waits for an answer gets the reason.
func (p *process) end(cause error) {
	p.mu.Lock()
	if p.cause != nil {
		p.mu.Unlock()
		return
	}
	p.cause = cause
	p.mu.Unlock()

	_ = p.stdin.Close()
	if cause != smartcred.ErrClosed {
		p.kill()
		return
	}
	p.answerAll(cause)
	timer := time.NewTimer(endWait)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.kill()
	}
}

// kill ends the program, unless it has ended, and what it started.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		killGroup(p.cmd.Process)
	}
}

func (p *process) answerAll(err error) {
	p.mu.Lock()
	waiting := p.pending
	p.pending = nil
	p.mu.Unlock()
	for _, x := range waiting {
		x.answer <- answered{err: err}
	}
}

// reap waits until the program has ended, ends what it started, and tells those
// who wait; ended is called before them.
func (p *process) reap(stderr *os.File, ended func(*process)) {
	p.exit = p.cmd.Wait()
	killGroup(p.cmd.Process)
	// What left the group may hold the pipes open.
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	drained := time.Now().Add(drainWait)
	p.stdout.endBy(drained)
	_ = stderr.SetReadDeadline(drained)
	p.reading <- struct{}{} // and never given back: who reads now is soon done
	p.readLines(drained, func() bool { return true })
	p.end(errEnded)
	<-p.logged
	closeAll(p.stdin.File, p.stdout.File, stderr)
	ended(p)
	p.answerAll(p.reason())
	close(p.done)
}

// reason says why the program ended; it is for who has seen it end.
func (p *process) reason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause != errEnded {
		return p.cause
	}
	return fmt.Errorf("%w (%s): plugin_message events hold what it said", errEnded, p.cmd.ProcessState)
}

// failure says whether its end was one, to whom has seen it end: nil if it was
// closed, or ended by itself while nobody waited for it.
func (p *process) failure() error {
	p.mu.Lock()
	cause, waiting := p.cause, len(p.pending)
	p.mu.Unlock()
	if cause == smartcred.ErrClosed || cause == errAbandoned || cause == errEnded && p.exit == nil && waiting == 0 {
		return nil
	}
	return p.reason()
}

// settle waits for a one-shot program to end after its answer, as it must, with
// status 0.
func (p *process) settle(ctx context.Context) error {
	lingers := time.AfterFunc(endWait, func() {
		p.end(errors.New("it did not end within a second of its last answer and the end of its input"))
	})
	select {
	case <-p.done:
		lingers.Stop()
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cause == errEnded && p.exit != nil {
		return fmt.Errorf("%w with %s, so its answer does not count", errEnded, p.cmd.ProcessState)
	}
	if p.cause != errEnded {
		return p.cause
	}
	return nil
}

// serving reports whether the program takes requests.
func (p *process) serving() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause == nil
}
