package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

var (
	errCannotSign = errors.New("can't sign")
	errHopeless   = fmt.Errorf("%w, clocks differ", errRefused)
)

// A party is one scope of the model test: its source, its server, and the judge
// between them and the engine.
type party struct {
	scope rotation.Scope
	trace *trace

	mu    sync.Mutex
	rng   *rand.Rand
	judge judge
	calls int

	// The source, as a cache shows it: 1 minute, errors 1 s, Newer once in 2 s.
	current    string
	previous   string
	staged     []string
	fails      error // of the source
	slow       time.Duration
	cached     string
	cachedErr  error
	cachedAt   time.Time
	lookedAt   time.Time
	othersFail error
	unsignable map[string]bool

	// The server.
	accepts map[string]bool
	flaky   int // refuses one valid request in so many
	outage  int // answers one request in so many with a 503
	skewed  bool
	latency time.Duration
}

// trace is what happened in a sequence, printed when it fails.
type trace struct {
	mu    sync.Mutex
	began time.Time
	lines []traceLine
	bad   []string
}

// traceLine is written out only if the sequence fails: its arguments don't change.
type traceLine struct {
	at     time.Duration
	format string
	args   []any
}

func (l traceLine) String() string {
	return fmt.Sprintf("%12s  ", l.at) + fmt.Sprintf(l.format, l.args...)
}

func (t *trace) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, traceLine{time.Since(t.began), format, args})
}

// String is the end of the sequence.
func (t *trace) String() string {
	var b strings.Builder
	for _, l := range t.lines[max(0, len(t.lines)-400):] {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

func (t *trace) breach(format string, args ...any) {
	t.note("BREACH: "+format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bad = append(t.bad, fmt.Sprintf(format, args...))
}

func newParty(scope rotation.Scope, rng *rand.Rand, tr *trace) *party {
	p := &party{
		scope: scope, rng: rng, trace: tr, current: "s0", latency: time.Millisecond,
		unsignable: map[string]bool{}, accepts: map[string]bool{"s0": true},
	}
	p.judge.report = func(format string, args ...any) {
		tr.breach("%s: %s", p.name(), fmt.Sprintf(format, args...))
	}
	p.judge.busy = map[*modelCall]bool{}
	p.judge.forget()
	return p
}

func (p *party) name() string { return p.scope.ClientID + "@" + p.scope.Server }

func (p *party) note(format string, args ...any) {
	p.trace.note(p.name()+": "+format, args...)
}

// jitter is a random time up to d, never a round one.
func (p *party) jitter(d time.Duration) time.Duration {
	return time.Microsecond + time.Duration(p.rng.Int64N(int64(d)+1))
}

// look asks the source itself.
func (p *party) look(ctx context.Context) error {
	p.mu.Lock()
	p.lookedAt = time.Now()
	wait := p.slow
	if wait > 0 {
		wait = p.jitter(wait)
	}
	p.mu.Unlock()
	if err := pause(ctx, wait); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if errors.Is(p.fails, smartcred.ErrUnavailable) {
		return p.fails
	}
	p.cached, p.cachedErr, p.cachedAt = p.current, p.fails, time.Now()
	return p.fails
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type callKey struct{}

// A modelCall is one call of Do, and implements its Candidates.
type modelCall struct {
	party     *party
	n         int
	ctx       context.Context
	single    bool
	limit     int
	began     time.Time
	proven    map[string]bool // when it began
	last      time.Time       // its last look-up or answer
	current   string
	others    []string
	listed    bool
	asked     bool
	dead      error // a look-up's word that current may not be used, or can't be had
	sends     []string
	tried     []string // sends, and what could not be sent
	pending   []pendingRefusal
	ground    ground
	refusedAt time.Time
	turn      bool
	unsent    bool
	staged    []string
	hopeless  bool
	ended     bool
	worked    bool
	cut       error

	allRefused bool
	returned   bool
}

type pendingRefusal struct {
	value  string
	ground ground
}

func (c *modelCall) String() string {
	kind := "call"
	if c.single {
		kind = "code"
	}
	return fmt.Sprintf("%s %d", kind, c.n)
}

func modelCandidate(value string, stage rotation.Stage) rotation.Candidate[string] {
	return rotation.Candidate[string]{Identity: []byte(value), Version: "v-" + value, Stage: stage, Value: value}
}

// Current implements rotation.Candidates. It is the one way back after waiting.
func (c *modelCall) Current(ctx context.Context) (rotation.Candidate[string], error) {
	p := c.party
	p.mu.Lock()
	now := time.Now()
	have := !p.cachedAt.IsZero()
	fresh := have && (p.cachedErr == nil && now.Sub(p.cachedAt) < time.Minute || p.cachedErr != nil && now.Sub(p.cachedAt) < time.Second)
	p.mu.Unlock()
	var err error
	if !fresh {
		err = p.look(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.last, c.listed = time.Now(), false
	switch {
	case ctx.Err() != nil:
		return rotation.Candidate[string]{}, ctx.Err()
	case err != nil && errors.Is(err, smartcred.ErrUnavailable) && (!have || p.cachedErr != nil):
		c.dead = err
	default:
		c.dead = p.cachedErr
	}
	if c.dead != nil {
		return rotation.Candidate[string]{}, c.dead
	}
	c.current = p.cached
	return modelCandidate(c.current, rotation.Current), nil
}

// Newer implements rotation.Candidates.
func (c *modelCall) Newer(ctx context.Context, than rotation.Candidate[string]) (rotation.Candidate[string], error) {
	p := c.party
	p.mu.Lock()
	now := time.Now()
	if now != c.last {
		p.judge.report("%s asks for a newer one %s after its last look", c, now.Sub(c.last))
	}
	if c.asked && !c.unsent {
		p.judge.report("%s asks for a newer one twice", c)
	}
	if than.Value != c.current {
		p.judge.report("%s asks for one newer than %s, not than %s", c, than.Value, c.current)
	}
	c.asked = true
	limited := now.Sub(p.lookedAt) < 2*time.Second
	p.mu.Unlock()
	var err error
	if !limited {
		err = p.look(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.last = time.Now()
	if err == nil {
		err = p.cachedErr
	}
	if err != nil {
		if errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied) {
			c.dead = err
		}
		return rotation.Candidate[string]{}, err
	}
	c.current = p.cached
	return modelCandidate(c.current, rotation.Current), nil
}

// Others implements rotation.Candidates.
func (c *modelCall) Others(ctx context.Context, _ func([]byte) bool) ([]rotation.Candidate[string], error) {
	p := c.party
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now != c.last {
		p.judge.report("%s looks others up %s after its last look", c, now.Sub(c.last))
	}
	c.listed, c.others = true, nil
	var out []rotation.Candidate[string]
	if p.othersFail != nil {
		return nil, p.othersFail
	}
	if p.previous != "" && p.previous != c.current {
		out = append(out, modelCandidate(p.previous, rotation.Previous))
	}
	for _, v := range p.staged {
		if v != c.current && v != p.previous {
			out = append(out, modelCandidate(v, rotation.Staged))
		}
	}
	c.staged = nil
	for _, x := range out {
		c.others = append(c.others, x.Value)
		if x.Stage == rotation.Staged {
			c.staged = append(c.staged, x.Value)
		}
	}
	return out, nil
}

func (c *modelCall) send(ctx context.Context, value string) error {
	p := c.party
	p.mu.Lock()
	if p.unsignable[value] {
		defer p.mu.Unlock()
		c.unsent = true
		c.tried = append(c.tried, value)
		return &rotation.NotSentError{Err: errCannotSign}
	}
	p.judge.begins(c, value, time.Now())
	c.sends, c.tried = append(c.sends, value), append(c.tried, value)
	wait := p.jitter(p.latency)
	flaky := p.flaky > 0 && p.rng.IntN(p.flaky) == 0
	outage := p.outage > 0 && p.rng.IntN(p.outage) == 0
	p.note("%s -> %s", c, value)
	p.mu.Unlock()

	err := pause(ctx, wait)

	p.mu.Lock()
	defer p.mu.Unlock()
	c.last = time.Now()
	switch {
	case err != nil:
	case outage:
		err = errOutage
	case p.skewed:
		err, c.hopeless = errHopeless, true
	case !p.accepts[value] || flaky:
		err = fmt.Errorf("%w %s", errRefused, value)
	}
	p.note("%s <- %s: %v", c, value, err)
	if !errors.Is(err, errRefused) {
		c.cut = err
	}
	p.judge.ends(c, value, err == nil, errors.Is(err, errRefused), c.last)
	return err
}

// do is one call, from its beginning to its judgement.
func (p *party) do(ctx context.Context, e *rotation.Engine[string], single bool, maxSends int) error {
	p.mu.Lock()
	p.calls++
	p.judge.active++
	c := &modelCall{party: p, n: p.calls, single: single, limit: 3, began: time.Now(), proven: map[string]bool{}}
	for v := range p.judge.proven {
		c.proven[v] = true
	}
	if single {
		c.limit = 2
	}
	if maxSends > 0 {
		c.limit = min(c.limit, maxSends)
	}
	p.mu.Unlock()
	c.ctx = context.WithValue(ctx, callKey{}, c)
	err := e.Do(c.ctx, rotation.Call[string]{
		Scope: p.scope, Candidates: c, Send: c.send, SingleUse: single, MaxSends: maxSends,
		Refused:  func(err error) bool { return errors.Is(err, errRefused) },
		Hopeless: func(err error) bool { return errors.Is(err, errHopeless) },
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("%s returned after %s: %v", c, time.Since(c.began), err)
	p.judge.returns(c, err, time.Now())
	return err
}
