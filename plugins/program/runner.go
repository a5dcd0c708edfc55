package program

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/plugins/program/internal/deadline"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
)

const (
	startTimeout   = 15 * time.Second // for the program to start and say what it is
	requestTimeout = 30 * time.Second // for an answer, where the caller sets no sooner end
	maxOneShots    = 8                // processes of a one-shot program at a time
	maxAtOnce      = 256              // requests at a time
)

// A runner runs one program for one Signer or Source.
type runner struct {
	name    string
	backend string // in events
	argv0   string
	pinned  *pinned
	// What may hold secrets is in functions, so that printing does not reach it.
	target   func() wire.Target
	env      func() []string
	redactor *redact.Redactor // of the values in env
	unnamed  *redact.Redactor // of those that may be in no name
	observer smartcred.Observer
	log      *logger // of all its processes

	startTimeout, requestTimeout time.Duration

	starting flight.Flight[*process]
	calls    flight.Gate
	slots    chan struct{} // a token for each request under way
	oneShots chan struct{} // a token for each process of a one-shot program

	mu        sync.Mutex
	closed    bool
	said      *wire.HelloAnswer // what the program said of itself; the pinned content says no other
	live      *process          // of a long-lived program
	processes map[*process]bool // that have not ended
	restarts  restarts

	closeOnce sync.Once
	closeErr  error
}

// call asks the program, and once more if it was ended because of another
// request. read takes what it needs of the answer: its error says that the
// program broke the protocol.
func (r *runner) call(ctx context.Context, req wire.Request, read func(*wire.Answer) error) error {
	if !r.calls.Enter() {
		return smartcred.ErrClosed
	}
	defer r.calls.Leave()
	if err := ctx.Err(); err != nil {
		return r.outcome(err)
	}
	asked, cancel := deadline.WithTimeout(ctx, r.requestTimeout)
	defer cancel()
	err := r.try(asked, req, read)
	if errors.Is(err, errHung) && asked.Err() == nil {
		err = r.try(asked, req, read)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
			<-ctx.Done() // its timer may be a moment behind the clock
		}
		if ctx.Err() == nil {
			err = fmt.Errorf("it did not answer within %s", r.requestTimeout)
		}
	}
	return r.outcome(err)
}

// outcome names the program, and makes what is no answer an outage.
func (r *runner) outcome(err error) error {
	for _, answer := range []error{
		smartcred.ErrNotFound, smartcred.ErrDenied, smartcred.ErrUnavailable, smartcred.ErrInvalidConfig,
		smartcred.ErrUnsupportedAlgorithm, smartcred.ErrClosed, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, answer) {
			return fmt.Errorf("plugin %s: %w", r.name, err)
		}
	}
	return fmt.Errorf("plugin %s: %w", r.name, &smartcred.UnavailableError{Err: err})
}

// try makes one attempt.
func (r *runner) try(ctx context.Context, req wire.Request, read func(*wire.Answer) error) error {
	if err := take(ctx, r.slots); err != nil {
		return err
	}
	defer release(r.slots)
	p, oneShot, err := r.ready(ctx)
	if err != nil {
		return err
	}
	req.Protocol, req.Target = wire.Version, r.target()
	if !oneShot {
		return r.exchange(ctx, p, &req, read)
	}
	if err := take(ctx, r.oneShots); err != nil {
		return err
	}
	defer release(r.oneShots)
	if p, err = r.launch(ctx); err != nil {
		return err
	}
	return r.exchange(ctx, p, &req, read)
}

func take(ctx context.Context, tokens chan struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	default:
	}
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func release(tokens chan struct{}) { <-tokens }

// exchange asks p, and judges the answer.
func (r *runner) exchange(ctx context.Context, p *process, req *wire.Request, read func(*wire.Answer) error) error {
	oneShot := p.oneShot
	answer, err := p.ask(ctx, req, oneShot)
	if err != nil {
		if oneShot && ctx.Err() != nil {
			p.end(errAbandoned)
		}
		return err
	}
	if answer.Error == nil {
		if err := read(answer); err != nil {
			err = fmt.Errorf("it broke the protocol: %w", err)
			p.end(err)
			return err
		}
	}
	if oneShot {
		if err := p.settle(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.restarts.succeeded()
	r.mu.Unlock()
	if answer.Error != nil {
		return answer.Error.Err()
	}
	return nil
}

// errAbandoned ends a one-shot program that nobody waits for any more.
var errAbandoned = errors.New("nobody waits for its answer any more")

// ready returns the long-lived process that serves, or reports that the program
// is a one-shot one. It starts the program where that is not known yet.
func (r *runner) ready(ctx context.Context) (p *process, oneShot bool, err error) {
	for {
		r.mu.Lock()
		p, said := r.live, r.said
		r.mu.Unlock()
		switch {
		case said != nil && said.Mode == wire.OneShot:
			return nil, true, nil
		case p != nil && p.serving():
			return p, false, nil
		case p != nil:
			select { // it is being ended
			case <-p.done:
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
			continue
		}
		if p, err = r.starting.Do(ctx, r.startTimeout, r.greet); p != nil || err != nil {
			return p, false, err
		}
	}
}

// greet starts the program and asks what it is. A nil process is that of a
// one-shot program.
func (r *runner) greet(ctx context.Context) (p *process, err error) {
	if p, err = r.launch(ctx); err != nil {
		return nil, err
	}
	said, err := p.greet(ctx)
	if err == nil && said.Mode == wire.OneShot {
		err = p.settle(ctx)
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("it did not say what it is within %s of its start", r.startTimeout)
		}
		p.end(err)
		<-p.done
		r.mu.Lock()
		defer r.mu.Unlock()
		r.count(p, err)
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = &said
	if said.Mode == wire.OneShot {
		return nil, nil
	}
	if r.processes[p] { // else it ended meanwhile
		r.live = p
	}
	return p, nil
}

// greet says hello.
func (p *process) greet(ctx context.Context) (said wire.HelloAnswer, err error) {
	answer, err := p.ask(ctx, &wire.Request{Method: wire.Hello, Protocols: []int{wire.Version}}, false)
	switch {
	case err != nil:
		return said, err
	case answer.Error != nil:
		switch err = answer.Error.Err(); {
		case answer.Error.Code == wire.CodeUnsupportedMethod:
			return said, errors.New("it broke the protocol: it does not know the method hello")
		case errors.Is(err, smartcred.ErrInvalidConfig), errors.Is(err, smartcred.ErrUnavailable):
			return said, err
		default: // of a secret or key that would say that it is revoked
			return said, errors.New("it broke the protocol: it answered hello as if a secret or key had been asked for")
		}
	}
	if said, err = answer.Hello(); err != nil {
		return said, fmt.Errorf("it broke the protocol: %w", err)
	}
	if said.Protocol != wire.Version {
		return said, (&wire.Failure{Code: wire.CodeUnsupportedProtocol}).Err()
	}
	return said, nil
}

// launch starts a process, unless the program failed too lately.
func (r *runner) launch(ctx context.Context) (*process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, smartcred.ErrClosed
	}
	if wait := r.restarts.wait(time.Now()); wait > 0 {
		if errors.Is(r.restarts.last, smartcred.ErrInvalidConfig) {
			return nil, r.restarts.last
		}
		return nil, &smartcred.UnavailableError{RetryAfter: wait, Err: fmt.Errorf("it failed %d times in a row, at last: %w", r.restarts.failures, r.restarts.last)}
	}
	p, err := r.spawn(ctx)
	if err != nil && ctx.Err() == nil {
		now := time.Now()
		r.restarts.failed(now, now, err)
	}
	return p, err
}

// spawn starts a process; r.mu is held.
func (r *runner) spawn(ctx context.Context) (*process, error) {
	p, err := start(ctx, r)
	if err != nil {
		return nil, err
	}
	p.oneShot = r.said != nil && r.said.Mode == wire.OneShot
	r.processes[p] = true
	return p, nil
}

// ended is told of each process that has ended.
func (r *runner) ended(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.processes, p)
	if r.live == p {
		r.live = nil
	}
	if failure := p.failure(); failure != nil {
		r.count(p, failure)
	}
}

// count counts the failure of a process once; r.mu is held.
func (r *runner) count(p *process, err error) {
	if !p.counted && !r.closed {
		p.counted = true
		r.restarts.failed(p.started, time.Now(), err)
	}
}

// Close ends the program: its input ends, and a second later the program does if
// it has not by itself. Calls under way return [smartcred.ErrClosed]. When Close
// returns nothing of the program runs but what left its process group.
func (r *runner) Close() error {
	r.closeOnce.Do(func() {
		r.mu.Lock()
		r.closed = true
		running := make([]*process, 0, len(r.processes))
		for p := range r.processes {
			running = append(running, p)
		}
		r.mu.Unlock()
		started, called := r.starting.Shut(), r.calls.Shut()
		var ending sync.WaitGroup
		for _, p := range running {
			ending.Go(func() {
				p.end(smartcred.ErrClosed)
				<-p.done
			})
		}
		ending.Wait()
		<-started
		<-called
		r.closeErr = r.pinned.Close()
	})
	return r.closeErr
}
