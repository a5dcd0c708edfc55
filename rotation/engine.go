package rotation

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
)

// Options configure an [Engine]. The zero value and nil are the defaults.
type Options struct {
	// Policy holds the numbers.
	Policy Policy
	// Memory carries the state over restarts; nil: it is kept in this process only.
	Memory Memory
	// Method names the authentication method in events.
	Method string
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// An Engine chooses which of several credentials is sent, and remembers what
// servers said of them. It is safe for concurrent use and has no goroutine.
type Engine[C any] struct {
	opts   Options
	policy Policy

	keyed sync.Mutex
	key   []byte // of identities' HMACs

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
	loaded time.Time     // when the record was last read from memory
	late   time.Time     // when the last warning of a previous credential in force was given

	writing sync.Mutex // one writer of memory at a time
}

func (e *Engine[C]) state(scope Scope) *state {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.states[scope]
	if st == nil {
		st = new(state)
		e.states[scope] = st
	}
	return st
}

// identify returns the id of an identity, under the memory's key or one of this
// process.
func (e *Engine[C]) identify(ctx context.Context, identity []byte) (id, error) {
	key, err := e.hmacKey(ctx)
	if err != nil {
		return id{}, err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(identity)
	return id(mac.Sum(nil)[:len(id{})]), nil
}

func (e *Engine[C]) hmacKey(ctx context.Context) ([]byte, error) {
	e.keyed.Lock()
	defer e.keyed.Unlock()
	if e.key != nil {
		return e.key, nil
	}
	if e.opts.Memory != nil {
		key, err := Key(ctx, e.opts.Memory)
		if err != nil {
			return nil, err
		}
		e.key = key
		return key, nil
	}
	e.key = make([]byte, keySize)
	_, _ = rand.Read(e.key) // never fails: crypto/rand ends the process instead
	return e.key, nil
}

// change alters the record, in memory first where there is one, so that other
// processes' changes are kept and a crash right after loses nothing. A memory
// that fails is an event: the process goes on with what it knows.
func (e *Engine[C]) change(ctx context.Context, scope Scope, st *state, alter func(*record)) {
	if e.opts.Memory == nil {
		st.mu.Lock()
		alter(&st.record)
		st.mu.Unlock()
		return
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	merged, err := update(ctx, e.opts.Memory, scope, alter)
	st.mu.Lock()
	if err == nil {
		st.record, st.loaded = merged, time.Now()
	} else {
		alter(&st.record)
	}
	st.mu.Unlock()
	if err != nil {
		e.notifyMemory(ctx, scope, err)
	}
}

// reload reads the record from memory, once a minute: another process, or a
// person, may have changed it.
func (e *Engine[C]) reload(ctx context.Context, scope Scope, st *state) {
	if e.opts.Memory == nil {
		return
	}
	now := time.Now()
	st.mu.Lock()
	due := st.loaded.IsZero() || now.Sub(st.loaded) >= reloadEvery
	if due {
		st.loaded = now
	}
	st.mu.Unlock()
	if !due {
		return
	}
	st.writing.Lock()
	defer st.writing.Unlock()
	kept, err := update(ctx, e.opts.Memory, scope, func(*record) {})
	if err != nil {
		e.notifyMemory(ctx, scope, err)
		return
	}
	st.mu.Lock()
	st.record = kept
	st.mu.Unlock()
}

// reloadEvery is how old a record may be that another process can change.
const reloadEvery = time.Minute

func (e *Engine[C]) notifyMemory(ctx context.Context, scope Scope, err error) {
	e.notify(ctx, scope, smartcred.Event{
		Kind: smartcred.EventMemoryFailed, Err: err,
		Detail: "what is learned about credentials is kept in this process only",
	})
}

func (e *Engine[C]) notify(ctx context.Context, scope Scope, event smartcred.Event) {
	event.ClientID, event.Server, event.Method = scope.ClientID, scope.Server, e.opts.Method
	smartcred.Notify(ctx, e.opts.Observer, event)
}

// Reset forgets what is known about scope, in memory too: no refusal, back-off
// or budget holds anything up after it.
func (e *Engine[C]) Reset(ctx context.Context, scope Scope) {
	st := e.state(scope)
	e.change(ctx, scope, st, func(r *record) { *r = record{} })
	st.mu.Lock()
	st.last = nil
	st.mu.Unlock()
}
