package rotation

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

// Options configure an [Engine]. The zero value and nil are the defaults.
type Options struct {
	// Policy holds the numbers.
	Policy Policy
	// Memory carries the state over restarts; nil: it is kept in this process
	// only. A memory that fails holds nothing up.
	Memory Memory
	// Method names the authentication method in events.
	Method string
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// An Engine chooses which of several credentials is sent, and remembers what
// servers said of them. It is safe for concurrent use and has no goroutine but
// while memory is read or written.
type Engine[C any] struct {
	opts   Options
	policy Policy
	keys   keyring

	mu     sync.Mutex
	states map[Scope]*state
}

// New returns an Engine.
func New[C any](opts *Options) *Engine[C] {
	e := &Engine[C]{states: make(map[Scope]*state)}
	if opts != nil {
		e.opts = *opts
	}
	e.policy = e.opts.Policy.complete()
	return e
}

// A state is what this process knows about one scope.
type state struct {
	mu     sync.Mutex
	record record
	last   *RefusedError // what callers get while a back-off lasts
	leader chan struct{} // closed when the caller that has the turn gives it back; nil: nobody has it
	late   int64         // when the last warning of a previous credential in force was given, in Unix seconds; 0: not yet
	memory *exchange     // nil without a memory
}

// An exchange is what a state needs to agree with memory.
type exchange struct {
	unsaved []unsaved // changes that memory does not have yet, oldest first
	changes int       // made so far
	loadDue time.Time // when the record is to be read again
	failing bool      // memory could not be read or written
	flight  flight.Flight[struct{}]
}

type unsaved struct {
	number int // of the change
	alter  func(*record)
}

// state returns what is known about scope under key. What was learned under
// another key can't be matched any more, and is forgotten.
func (e *Engine[C]) state(scope Scope, key *hmacKey) *state {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.states[scope]
	if st == nil {
		st = new(state)
		st.record.Key = key.id
		if e.opts.Memory != nil {
			st.memory = new(exchange)
		}
		e.states[scope] = st
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.record.Key != key.id {
		st.record, st.last = record{Key: key.id}, nil
		st.memory.unsaved, st.memory.loadDue = nil, time.Time{} // only a memory's key changes
	}
	return st
}

// change alters the record, in this process at once and then in memory, so that
// a crash right after loses nothing. It waits for memory as long as ctx lasts;
// the writing goes on without it.
func (e *Engine[C]) change(ctx context.Context, scope Scope, st *state, alter func(*record)) {
	st.mu.Lock()
	st.alter(alter)
	st.mu.Unlock()
	e.save(ctx, scope, st)
}

// maxUnsaved is how many changes are kept for a memory that fails; more become
// one that replaces the record there.
const maxUnsaved = 64

// alter is change without memory. st.mu is held.
func (st *state) alter(alter func(*record)) {
	alter(&st.record)
	if st.memory == nil {
		return
	}
	m := st.memory
	m.changes++
	m.unsaved = append(m.unsaved, unsaved{m.changes, alter})
	if len(m.unsaved) > maxUnsaved {
		whole := st.record.clone()
		m.unsaved = []unsaved{{m.changes, func(r *record) { *r = whole.clone() }}}
	}
}

const (
	// reloadEvery is how old a record may be that another process can change.
	reloadEvery = time.Minute
	// memoryPause is how long a memory that failed is left alone by readers.
	memoryPause = 10 * time.Second
	// memoryTimeout bounds one reading or writing.
	memoryTimeout = 5 * time.Second
)

// load reads the record from memory when that is due, or if it is forced:
// another process, or a person, may have changed it. It returns ctx's error only.
func (e *Engine[C]) load(ctx context.Context, scope Scope, st *state, force bool) error {
	if st.memory == nil {
		return nil
	}
	st.mu.Lock()
	due := force || !time.Now().Before(st.memory.loadDue)
	st.mu.Unlock()
	if due {
		e.save(ctx, scope, st)
	}
	return ctx.Err()
}

// save brings memory and this process's record together: changes that memory
// does not have are made there, on top of what other processes wrote.
func (e *Engine[C]) save(ctx context.Context, scope Scope, st *state) {
	for st.memory != nil {
		_, _ = st.memory.flight.Do(ctx, memoryTimeout, func(ctx context.Context) (struct{}, error) {
			e.sync(ctx, scope, st)
			return struct{}{}, nil
		})
		st.mu.Lock()
		done := len(st.memory.unsaved) == 0 || st.memory.failing
		st.mu.Unlock()
		// The call that was joined may have begun before this caller's change.
		if done || ctx.Err() != nil {
			return
		}
	}
}

// sync is one exchange with memory. There is one at a time.
func (e *Engine[C]) sync(ctx context.Context, scope Scope, st *state) {
	st.mu.Lock()
	changes, made := slices.Clone(st.memory.unsaved), st.memory.changes
	keyID := st.record.Key
	st.mu.Unlock()
	merged, err := update(ctx, e.opts.Memory, scope, func(r *record) {
		if r.Key != keyID {
			*r = record{Key: keyID}
		}
		r.clamp(e.policy, time.Now())
		for _, c := range changes {
			c.alter(r)
		}
	})

	st.mu.Lock()
	now := time.Now()
	first := err != nil && !st.memory.failing
	st.memory.failing = err != nil
	switch {
	case st.record.Key != keyID: // the key was replaced meanwhile
	case err != nil:
		st.memory.loadDue = now.Add(memoryPause)
	default:
		st.memory.unsaved = slices.DeleteFunc(st.memory.unsaved, func(c unsaved) bool { return c.number <= made })
		for _, c := range st.memory.unsaved {
			c.alter(&merged)
		}
		st.record, st.memory.loadDue = merged, now.Add(reloadEvery)
	}
	st.mu.Unlock()
	if first {
		e.notifyMemory(ctx, scope, err)
	}
}

func (e *Engine[C]) notifyMemory(ctx context.Context, scope Scope, err error) {
	e.notify(ctx, scope, smartcred.Event{
		Kind: smartcred.EventMemoryFailed, Err: err,
		Detail: "what is learned about credentials is kept in this process until memory works again",
	})
}

func (e *Engine[C]) notify(ctx context.Context, scope Scope, event smartcred.Event) {
	event.ClientID, event.Server, event.Method = scope.ClientID, scope.Server, e.opts.Method
	smartcred.Notify(ctx, e.opts.Observer, event)
}

// Reset forgets what is known about scope, in memory too: no refusal, back-off
// or budget holds anything up after it.
func (e *Engine[C]) Reset(ctx context.Context, scope Scope) {
	key := e.keys.current(ctx, e.opts.Memory, func(err error) { e.notifyMemory(ctx, scope, err) })
	st := e.state(scope, key)
	e.change(ctx, scope, st, func(r *record) { *r = record{Key: r.Key} })
	st.mu.Lock()
	st.last = nil
	st.mu.Unlock()
}
