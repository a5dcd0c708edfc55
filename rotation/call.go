package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/smartcred/smartcred"
)

// Do makes the call with one credential after the other, until one is taken, an
// error is no refusal, or the policy's limit is reached. All refused is a
// [RefusedError]. Errors of [Candidates].Current and of Send come back as they are.
func (e *Engine[C]) Do(ctx context.Context, call Call[C]) error {
	limit := e.policy.MaxSends
	if call.SingleUse {
		limit = e.policy.MaxSendsSingleUse
	}
	if call.MaxSends > 0 {
		limit = min(limit, call.MaxSends)
	}
	key := e.keys.current(ctx, e.opts.Memory, func(err error) { e.notifyMemory(ctx, call.Scope, err) })
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c := &caller[C]{engine: e, call: call, key: key, state: e.state(call.Scope, key), limit: limit}
	defer c.passTurn()
	return c.run(ctx)
}

// A caller is one call on its way through the rules.
type caller[C any] struct {
	engine *Engine[C]
	call   Call[C]
	key    *hmacKey
	state  *state
	limit  int

	current candidate[C]
	others  []candidate[C]
	listed  bool  // others were looked up
	lookup  error // why some could not be

	sends     int
	attempts  []Attempt
	tried     []id
	pending   []sent[C]   // refusals that count only once another credential worked
	asked     bool        // current was looked up past the cache
	again     id          // what is sent once more; zero: nothing
	unusable  bool        // current can't be used, and was not sent
	leading   bool        // this caller has the turn
	trial     bool        // a back-off is over: each credential once
	refused   *refused[C] // the last refusal
	refusedAt time.Time
	refusals  []id // all of this call
}

type refused[C any] struct {
	candidate[C]
	err error
}

type candidate[C any] struct {
	Candidate[C]
	id id
}

// sent is a candidate on its way, with what permitted it.
type sent[C any] struct {
	candidate[C]
	by permission
}

func (c *caller[C]) run(ctx context.Context) error {
	if err := c.engine.load(ctx, c.call.Scope, c.state, false); err != nil {
		return err
	}
	if err := c.readCurrent(ctx); err != nil {
		return err
	}
	for {
		// A look-up that ended with this caller says nothing about the others.
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("rotation: choose credential: %w", err)
		}
		switch next := c.decide(time.Now()); next.step {
		case stepSend:
			if done, err := c.send(ctx, next.candidate); done {
				return err
			}
		case stepOthers:
			c.readOthers(ctx)
		case stepAsk:
			if _, err := c.askAgain(ctx); err != nil {
				return err
			}
		case stepWait:
			select {
			case <-next.turn:
			case <-ctx.Done():
				return fmt.Errorf("rotation: wait for the credential that another caller tries: %w", ctx.Err())
			}
			if err := c.readCurrent(ctx); err != nil {
				return err
			}
			c.listed = false
		case stepFail:
			return next.err
		case stepExhausted:
			if c.sends == 0 && len(c.attempts) == 0 && !c.asked { // the budget is spent: another value is all that helps
				if _, err := c.askAgain(ctx); err != nil {
					return err
				}
				continue
			}
			return c.exhausted(ctx)
		}
	}
}

func (c *caller[C]) readCurrent(ctx context.Context) error {
	current, err := c.call.Candidates.Current(ctx)
	if err != nil {
		return err
	}
	c.setCurrent(current)
	return nil
}

// setCurrent reports whether current is another credential than before.
func (c *caller[C]) setCurrent(current Candidate[C]) (changed bool) {
	i := c.key.identify(current.Identity)
	if changed = i != c.current.id; changed {
		c.listed, c.again, c.unusable = false, id{}, false
	}
	c.current = candidate[C]{current, i}
	return changed
}

func (c *caller[C]) readOthers(ctx context.Context) {
	c.state.mu.Lock()
	last := c.state.record.InForce
	c.state.mu.Unlock()
	others, err := c.call.Candidates.Others(ctx, func(identity []byte) bool {
		return c.key.identify(identity) == last
	})
	c.lookup = err
	c.others, c.listed = c.others[:0], true
	for _, other := range others {
		if i := c.key.identify(other.Identity); i != c.current.id {
			c.others = append(c.others, candidate[C]{other, i})
		}
	}
}

// askAgain looks current up past the cache and reports whether it is another
// one now. Only an answer that there is no current any more, or that it may not
// be read, is an error.
func (c *caller[C]) askAgain(ctx context.Context) (changed bool, err error) {
	c.asked = true
	newer, err := c.call.Candidates.Newer(ctx, c.current.Candidate)
	switch {
	case errors.Is(err, smartcred.ErrNotFound), errors.Is(err, smartcred.ErrDenied), errors.Is(err, smartcred.ErrClosed):
		return false, err
	case err != nil:
		c.lookup = err
		return false, nil
	}
	return c.setCurrent(newer), nil
}

// send makes the request and learns from what comes back.
func (c *caller[C]) send(ctx context.Context, x sent[C]) (done bool, err error) {
	if c.refused != nil && c.refused.id != x.id {
		c.notifyFallback(ctx, x.candidate)
	}
	c.tried = append(c.tried, x.id)
	err = c.call.Send(ctx, x.Value)
	switch {
	case err == nil:
		c.sends++
		c.succeeded(ctx, x)
		return true, nil
	case isNotSent(err):
		c.attempts = append(c.attempts, x.attempt(err))
		if x.id == c.current.id {
			c.unusable = true
			_, err = c.askAgain(ctx)
			return err != nil, err
		}
		return false, nil
	}
	c.sends++
	if !c.call.Refused(err) {
		return true, err
	}
	c.attempts = append(c.attempts, x.attempt(err))
	now := time.Now()
	c.refused, c.refusedAt = &refused[C]{x.candidate, err}, now
	c.refusals = append(c.refusals, x.id)
	if c.call.SingleUse {
		c.pending = append(c.pending, x)
		c.engine.change(ctx, c.call.Scope, c.state, func(r *record) { r.refusedCode(x.id, x.by, now) })
	} else {
		c.engine.change(ctx, c.call.Scope, c.state, func(r *record) {
			r.refused(c.engine.policy, x.id, x.Version, x.KeyID, x.by, now)
		})
	}
	if c.call.Hopeless != nil && c.call.Hopeless(err) {
		return true, c.allRefused(ctx)
	}
	if c.asked || c.sends >= c.limit {
		return false, nil
	}
	changed, err := c.askAgain(ctx)
	if err != nil {
		return true, c.failed(err)
	}
	if !changed && !c.trial && ctx.Err() == nil {
		c.considerAgain(ctx, x.id)
	}
	return false, nil
}

// considerAgain decides whether what was refused first is sent once more: if it
// is current, or what the server took last, if it has worked before, and if the
// limit leaves room besides current and every other credential not under refusal.
func (c *caller[C]) considerAgain(ctx context.Context, refused id) {
	if !c.listed {
		c.readOthers(ctx)
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	r := &c.state.record
	if !r.proven(refused) || refused != c.current.id && refused != r.InForce {
		return
	}
	now := time.Now()
	room := c.limit - c.sends
	for _, other := range append([]candidate[C]{c.current}, c.others...) {
		if slices.Contains(c.tried, other.id) || other.id != c.current.id && r.underRefusal(other.id, now) {
			continue
		}
		if r.proven(other.id) || r.permit(c.engine.policy, other.id, c.call.SingleUse, now) != forbidden {
			room--
		}
	}
	if room > 0 {
		c.again = refused
	}
}

func (c *caller[C]) succeeded(ctx context.Context, x sent[C]) {
	now := time.Now()
	current := c.current.id
	// Only the server's refusal of current makes a staged credential its current
	// one: what could not be used for a while comes first again when it can.
	adopts := x.Stage == Staged && x.id != current && c.wasRefused(current)

	c.state.mu.Lock()
	r := &c.state.record
	k := r.find(x.id)
	before, backedOff := r.InForce, r.Backoff != nil
	over := r.Adopted != nil && (x.id == current || r.Adopted.Over != current)
	known := k != nil && k.Row == 0 && now.Sub(k.Worked) < time.Hour && before == x.id && r.Backoff == nil && len(c.pending) == 0 && !adopts && !over
	if known {
		k.Worked = now // those that were refused meanwhile look at it; memory need not know
	}
	c.state.last = nil
	c.state.mu.Unlock()
	if x.Late {
		c.notifyLate(ctx, x.candidate, now)
	}
	if known {
		return
	}
	c.engine.change(ctx, c.call.Scope, c.state, func(r *record) {
		for _, p := range c.pending {
			r.refused(c.engine.policy, p.id, p.Version, p.KeyID, p.by, now)
		}
		r.worked(x.id, x.Version, x.KeyID, now)
		switch {
		case adopts:
			r.Adopted = &adoption{ID: x.id, Over: current}
		case r.Adopted != nil && (x.id == current || r.Adopted.Over != current):
			r.Adopted = nil
		}
		r.trim(now)
	})
	if before != x.id || backedOff {
		c.notifySelected(ctx, x.candidate, adopts, backedOff)
	}
}

// exhausted ends a call that has no credential left to send.
func (c *caller[C]) exhausted(ctx context.Context) error {
	if c.sends > 0 {
		return c.allRefused(ctx)
	}
	if len(c.attempts) > 0 { // none could be used, and the server was not asked
		var errs []error
		for _, a := range c.attempts {
			errs = append(errs, a.Err)
		}
		return errors.Join(errs...)
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	until := c.state.record.permitted(c.engine.policy, c.current.id, c.call.SingleUse, time.Now())
	spent := &RefusedError{Scope: c.call.Scope, BudgetSpent: true, Until: until, Lookup: c.lookup}
	if c.state.last != nil {
		spent.Attempts = c.state.last.Attempts
	}
	return spent
}

// allRefused begins the back-off, unless the call may not.
func (c *caller[C]) allRefused(ctx context.Context) error {
	failed := c.failed(c.lookup)
	if c.call.SingleUse {
		return failed
	}
	now := time.Now()
	tried := c.tried
	begin := func(r *record) {
		r.allRefused(c.engine.policy, c.current.id, slices.ContainsFunc(tried, r.proven), now)
	}
	c.state.mu.Lock()
	c.state.alter(begin)
	r := &c.state.record
	failed.Until = r.Backoff.Until
	if !slices.ContainsFunc(tried, r.proven) {
		// The budget can hold the next request up for longer.
		if at := r.permitted(c.engine.policy, c.current.id, false, failed.Until); at.After(failed.Until) {
			failed.Until, failed.BudgetSpent = at, true
		}
	}
	c.state.last = failed
	c.state.mu.Unlock()
	c.engine.save(ctx, c.call.Scope, c.state)
	c.notifyAllRefused(ctx, failed)
	return failed
}

// failed is the error of what was tried, current first.
func (c *caller[C]) failed(lookup error) *RefusedError {
	attempts := slices.Clone(c.attempts)
	slices.SortStableFunc(attempts, func(a, b Attempt) int { return int(a.Stage) - int(b.Stage) })
	return &RefusedError{Scope: c.call.Scope, Attempts: attempts, Lookup: lookup}
}

// wasRefused reports whether the server refused i in this call.
func (c *caller[C]) wasRefused(i id) bool { return slices.Contains(c.refusals, i) }

// passTurn gives the turn back, if this caller has it.
func (c *caller[C]) passTurn() {
	if !c.leading {
		return
	}
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	close(c.state.leader)
	c.state.leader = nil
}

func (x candidate[C]) attempt(err error) Attempt {
	return Attempt{Version: x.Version, KeyID: x.KeyID, Stage: x.Stage, Err: err}
}
