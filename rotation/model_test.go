package rotation_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

var (
	sequences = flag.Int("rotation.sequences", 2000, "how many random sequences the model test runs; a tenth under the race detector")
	oneSeed   = flag.Uint64("rotation.seed", 0, "run the model test's sequence of this seed only, and print it")
)

// TestModel runs random sequences of events past the judge. The seed settles the
// events; the engine's jitter and the order of goroutines are their own, so that
// a rare breach may need -count to be seen again.
func TestModel(t *testing.T) {
	if *oneSeed != 0 {
		runSequence(t, *oneSeed)
		return
	}
	count := uint64(*sequences / unlessRaced(1, 10))
	var next atomic.Uint64
	for worker := range runtime.GOMAXPROCS(0) {
		t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
			t.Parallel()
			for !t.Failed() {
				seed := next.Add(1)
				if seed > count {
					return
				}
				runSequence(t, seed)
			}
		})
	}
}

func runSequence(t *testing.T, seed uint64) {
	var tr *trace
	defer func() {
		if p := recover(); p != nil { // synctest's word that goroutines are stuck
			t.Errorf("seed %d: %v", seed, p)
		}
		if tr != nil && (len(tr.bad) > 0 || *oneSeed != 0) {
			t.Logf("seed %d:\n%s", seed, tr)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		s := newSequence(seed)
		tr = s.trace
		s.run(t.Context())
		for _, bad := range s.trace.bad[:min(3, len(s.trace.bad))] {
			t.Errorf("seed %d: %s", seed, bad)
		}
	})
}

// sequence is one run: two scopes with changing fortunes, and one beside them
// where all is well.
type sequence struct {
	rng     *rand.Rand
	trace   *trace
	engine  *rotation.Engine[string]
	memory  *mapMemory // nil: none
	parties []*party
	well    *party
	kinds   []func(context.Context, *party) // the events of this sequence
	running sync.WaitGroup
	count   int // calls, to bound the run
}

func newSequence(seed uint64) *sequence {
	s := &sequence{rng: rand.New(rand.NewPCG(seed, 3)), trace: &trace{began: time.Now()}}
	switch s.rng.IntN(5) {
	case 0, 1:
		s.memory = &mapMemory{kept: map[string]string{}}
	case 2:
		s.memory = &mapMemory{kept: map[string]string{}, rng: rand.New(rand.NewPCG(seed, 4))}
	}
	// The same client at another server, and another client at the same one.
	scopes := []rotation.Scope{{ClientID: "app", Server: "A"}, {ClientID: "app", Server: "B"}, {ClientID: "well", Server: "A"}}
	for i, scope := range scopes {
		p := newParty(scope, rand.New(rand.NewPCG(seed, 10+uint64(i))), s.trace)
		p.judge.broken = s.memory.fails()
		s.parties = append(s.parties, p)
	}
	s.well, s.parties = s.parties[2], s.parties[:2]
	s.start()
	// Each sequence has its own mixture: some kinds often, some never.
	for _, kind := range []func(context.Context, *party){s.callers, s.callers, s.traffic, s.server, s.serverWays, s.source, s.staging, s.wild, s.sourceWays, s.signing, s.reset, s.restart, s.wait} {
		for range s.rng.IntN(4) {
			s.kinds = append(s.kinds, kind)
		}
	}
	s.kinds = append(s.kinds, s.callers, s.server, s.source, s.wait)
	return s
}

func (s *sequence) start() {
	opts := &rotation.Options{Observer: smartcred.ObserverFunc(observe)}
	if s.memory != nil {
		opts.Memory = s.memory
	}
	s.engine = rotation.New[string](opts)
}

func (s *sequence) run(ctx context.Context) {
	for range 15 + s.rng.IntN(40) {
		p := s.parties[s.rng.IntN(2)]
		s.kinds[s.rng.IntN(len(s.kinds))](ctx, p)
		s.checkWell(ctx)
		if len(s.trace.bad) > 0 || s.count > 600 {
			break
		}
	}
	if !s.settle(ctx) {
		return
	}
	for _, p := range s.parties {
		if len(s.trace.bad) == 0 {
			s.heal(ctx, p)
		}
	}
}

// settle waits for all calls; one that never ends is stuck.
func (s *sequence) settle(context.Context) bool {
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	timer := time.NewTimer(100 * time.Hour)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		s.trace.breach("calls are stuck")
		return false
	}
}

// checkWell: the troubles of other scopes are none of this one's.
func (s *sequence) checkWell(ctx context.Context) {
	w := s.well
	before := time.Now()
	w.mu.Lock()
	sent := w.judge.active
	w.mu.Unlock()
	if err := w.do(ctx, s.engine, false, 0); err != nil || sent != 0 || time.Since(before) > w.latency+time.Microsecond {
		s.trace.breach("the scope where all is well: %v after %s", err, time.Since(before))
	}
}

// The events.

func (s *sequence) chance(percent int) bool { return s.rng.IntN(100) < percent }

// some sleeps a little, so that no two causes share an instant.
func (s *sequence) some(d time.Duration) {
	time.Sleep(time.Microsecond + time.Duration(s.rng.Int64N(int64(d))))
}

func (s *sequence) callers(ctx context.Context, p *party) {
	n := 1 + s.rng.IntN(3)
	if s.chance(30) {
		n = 1 + s.rng.IntN(20)
	}
	codes := []int{0, 0, 30, 100}[s.rng.IntN(4)]
	for range n {
		s.call(ctx, p, s.chance(codes))
	}
	s.some(time.Second)
}

func (s *sequence) call(ctx context.Context, p *party, single bool) {
	s.count++
	maxSends := 0
	if s.chance(3) {
		maxSends = 1 + s.rng.IntN(2)
	}
	cancel := func() {}
	if s.chance(25) {
		ctx, cancel = context.WithTimeout(ctx, time.Microsecond+time.Duration(s.rng.Int64N(int64(5*time.Second))))
	}
	e := s.engine
	s.running.Go(func() {
		defer cancel()
		_ = p.do(ctx, e, single, maxSends)
	})
}

// traffic is one caller after the other for a while.
func (s *sequence) traffic(ctx context.Context, p *party) {
	every := []time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour}[s.rng.IntN(5)]
	for range 10 + s.rng.IntN(60) {
		s.call(ctx, p, s.chance(10))
		time.Sleep(every + time.Duration(s.rng.Int64N(int64(every/10))))
	}
}

// server changes what it accepts.
func (s *sequence) server(_ context.Context, p *party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := append([]string{p.current, p.previous}, p.staged...)
	p.accepts = map[string]bool{}
	switch s.rng.IntN(6) {
	case 0: // none
	case 1:
		p.accepts[p.current] = true
	case 2:
		p.accepts[p.previous] = true
	default:
		for _, v := range all {
			p.accepts[v] = s.chance(50)
		}
	}
	delete(p.accepts, "")
	p.note("the server takes %v", p.accepts)
}

// serverWays changes how it answers.
func (s *sequence) serverWays(_ context.Context, p *party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flaky = []int{0, 0, 50, 5, 2}[s.rng.IntN(5)]
	p.outage = []int{0, 0, 10, 2, 1}[s.rng.IntN(5)]
	p.skewed = s.chance(15)
	p.latency = []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second, 30 * time.Second}[s.rng.IntN(4)]
	p.note("the server: flaky %d, outage %d, skewed %t, latency %s", p.flaky, p.outage, p.skewed, p.latency)
}

// source changes what it has.
func (s *sequence) source(_ context.Context, p *party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := fmt.Sprint("s", s.rng.IntN(4)) // all values together are under 16: the engine remembers so many
	switch s.rng.IntN(8) {
	case 0, 1: // rotated
		p.previous, p.current = p.current, fresh
	case 2: // reverted, or swapped
		if p.previous != "" {
			p.previous, p.current = p.current, p.previous
		}
	case 3:
		p.previous = ""
	case 4:
		p.current = fresh
	case 5:
		p.stage(fmt.Sprint("+k", s.rng.IntN(4)))
	case 6: // activated
		if len(p.staged) > 0 {
			p.previous, p.current, p.staged = p.current, p.staged[0], p.staged[1:]
		}
	case 7:
		p.staged = nil
	}
	if p.previous == p.current {
		p.previous = ""
	}
	p.note("the source has %s, %s, %v", p.current, p.previous, p.staged)
}

func (p *party) stage(v string) {
	if !slices.Contains(p.staged, v) && v != p.current && v != p.previous && len(p.staged) < 2 {
		p.staged = append(p.staged, v)
	}
}

// staging stages a key that the server soon takes, alone perhaps, calls, and
// then makes another one current.
func (s *sequence) staging(ctx context.Context, p *party) {
	p.mu.Lock()
	p.stage(fmt.Sprint("+k", s.rng.IntN(4)))
	if len(p.staged) > 0 {
		p.accepts = map[string]bool{p.staged[0]: true}
	}
	p.note("the source has %s, %s, %v, and the server takes %v", p.current, p.previous, p.staged, p.accepts)
	p.mu.Unlock()
	for range 3 {
		s.call(ctx, p, false)
		s.some(10 * time.Minute)
	}
	if s.chance(50) {
		p.mu.Lock()
		p.current = fmt.Sprint("s", s.rng.IntN(4))
		if p.previous == p.current {
			p.previous = ""
		}
		p.note("the source has %s, %s, %v", p.current, p.previous, p.staged)
		p.mu.Unlock()
		s.some(2 * time.Minute)
		s.call(ctx, p, false)
	}
}

// wild is a source with another value at every look-up, for a while.
func (s *sequence) wild(ctx context.Context, p *party) {
	for n := range 7 {
		p.mu.Lock()
		p.current = fmt.Sprint("w", n)
		p.note("the source has %s, %s, %v", p.current, p.previous, p.staged)
		p.mu.Unlock()
		s.some(4 * time.Minute)
		s.call(ctx, p, s.chance(10))
	}
}

// sourceWays changes how it answers.
func (s *sequence) sourceWays(_ context.Context, p *party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = []error{nil, nil, smartcred.ErrUnavailable, smartcred.ErrDenied, smartcred.ErrNotFound}[s.rng.IntN(5)]
	p.othersFail = nil
	if s.chance(20) {
		p.othersFail = smartcred.ErrUnavailable
	}
	p.slow = []time.Duration{0, 0, 100 * time.Millisecond, 5 * time.Second}[s.rng.IntN(4)]
	p.note("the source: %v, others %v, slow %s", p.fails, p.othersFail, p.slow)
}

// signing takes keys out of use, or brings them back.
func (s *sequence) signing(_ context.Context, p *party) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsignable = map[string]bool{}
	if s.chance(60) {
		all := append([]string{p.current, p.previous}, p.staged...)
		p.unsignable[all[s.rng.IntN(len(all))]] = true
	}
	p.note("can't be used: %v", p.unsignable)
}

func (s *sequence) reset(ctx context.Context, p *party) {
	s.some(time.Millisecond)
	s.engine.Reset(ctx, p.scope)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note("reset")
	p.judge.forget()
}

// restart ends the process and starts another, with the same memory if any.
func (s *sequence) restart(ctx context.Context, _ *party) {
	if !s.settle(ctx) {
		return
	}
	before := make([]rotation.Status, len(s.parties))
	for i, p := range s.parties {
		before[i] = s.engine.Status(ctx, p.scope)
		before[i].LastError = nil // it is this process's
	}
	s.start()
	s.trace.note("restart")
	for i, p := range append(s.parties, s.well) {
		p.mu.Lock()
		p.cachedAt, p.lookedAt = time.Time{}, time.Time{}
		if s.memory == nil || s.memory.fails() {
			p.judge.forget()
		}
		p.mu.Unlock()
		if s.memory != nil && !s.memory.fails() && i < len(before) {
			if diff := cmp.Diff(before[i], s.engine.Status(ctx, p.scope), toTheHour); diff != "" {
				s.trace.breach("after a restart (-before +after):\n%s", diff)
			}
		}
	}
}

// toTheHour compares when a credential worked, which is kept to the hour.
var toTheHour = cmp.Transformer("worked", func(k rotation.Known) any {
	return struct {
		Version      string
		Worked       bool
		Refusals     int
		RefusedUntil time.Time
	}{k.Version, !k.Worked.IsZero(), k.Refusals, k.RefusedUntil}
})

func (s *sequence) wait(context.Context, *party) {
	s.some([]time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, 2 * time.Hour, 13 * time.Hour}[s.rng.IntN(6)])
}

// heal makes everything right and judges how long it takes to be so for callers:
// within 5 minutes with a credential that worked here before, within what the
// budget allows with others. From then on every call succeeds.
func (s *sequence) heal(ctx context.Context, p *party) {
	p.mu.Lock()
	p.fails, p.othersFail, p.slow, p.flaky, p.outage, p.skewed, p.latency = nil, nil, 0, 0, 0, false, time.Millisecond
	p.unsignable = map[string]bool{}
	p.staged = p.staged[:min(1, len(p.staged))] // three: what one call can send
	good := []string{p.current}
	if p.previous != "" {
		good = append(good, p.previous)
	}
	good = append(good, p.staged...)
	candidates := len(good)
	which := s.rng.IntN(len(good))
	good = good[which : which+1]
	p.accepts = map[string]bool{good[0]: true}
	proven := p.judge.proven[good[0]] && !p.judge.broken
	p.note("healing with %s, proven: %t", good[0], proven)
	p.mu.Unlock()
	time.Sleep(2*time.Second + time.Microsecond)

	// One request an hour; and none for a while when the day's 40 are spent.
	limit := time.Duration(candidates+1)*66*time.Minute + 3*time.Hour
	if proven {
		limit = 5*time.Minute + 5*time.Second
	}
	for began := time.Now(); ; {
		if err := p.do(ctx, s.engine, false, 0); err == nil {
			break
		}
		if len(s.trace.bad) > 0 {
			return
		}
		if time.Since(began) > limit {
			s.trace.breach("%s: the server takes %s (worked before: %t), and nobody is served after %s", p.name(), good[0], proven, limit)
			return
		}
		if time.Since(began) < 6*time.Minute {
			time.Sleep(2 * time.Second)
		} else {
			time.Sleep(30 * time.Second)
		}
	}
	if p.judge.broken {
		return
	}
	for n := range 60 {
		single := candidates < 3 && n%3 == 0
		for range 1 + n%3 {
			s.running.Go(func() {
				if err := p.do(ctx, s.engine, single, 0); err != nil {
					s.trace.breach("%s: after healing: %v", p.name(), err)
				}
			})
		}
		s.some(2 * time.Minute)
		s.running.Wait()
	}
}

// mapMemory is a Memory in a map; with rng every second Update fails.
type mapMemory struct {
	mu   sync.Mutex
	kept map[string]string
	rng  *rand.Rand
}

func (m *mapMemory) fails() bool { return m != nil && m.rng != nil }

func (m *mapMemory) Update(ctx context.Context, name string, change func([]byte) []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rng != nil && name != "key" && m.rng.IntN(2) == 0 {
		return errors.New("memory: out of order")
	}
	var old []byte
	if kept, ok := m.kept[name]; ok {
		old = []byte(kept)
	}
	if changed := change(old); changed == nil {
		delete(m.kept, name)
	} else {
		if !json.Valid(changed) {
			return errors.New("memory: not JSON")
		}
		m.kept[name] = string(changed)
	}
	return nil
}
