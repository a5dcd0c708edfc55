package rotation_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

// faultyMemory is a memory that blocks or fails to order.
type faultyMemory struct {
	mu       sync.Mutex
	kept     map[string][]byte
	gates    map[string]chan struct{} // by the beginning of a name: blocks until closed
	failing  error
	readOnly error // of writes only
}

func newMemory() *faultyMemory {
	return &faultyMemory{kept: map[string][]byte{}, gates: map[string]chan struct{}{}}
}

func (m *faultyMemory) Update(ctx context.Context, name string, change func([]byte) []byte) error {
	m.mu.Lock()
	var gate chan struct{}
	for prefix, g := range m.gates {
		if strings.HasPrefix(name, prefix) {
			gate = g
		}
	}
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing != nil {
		return m.failing
	}
	old := m.kept[name]
	next := change(old)
	switch {
	case string(next) == string(old):
		return nil
	case m.readOnly != nil:
		return m.readOnly
	case next == nil:
		delete(m.kept, name)
	default:
		m.kept[name] = next
	}
	return nil
}

func (m *faultyMemory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func engineWith(m rotation.Memory) *rotation.Engine[string] {
	return rotation.New[string](&rotation.Options{Observer: smartcred.Discard, Memory: m})
}

// slowOthers takes its time to look the other credentials up.
type slowOthers struct {
	*world
	delay time.Duration
}

func (s slowOthers) Others(ctx context.Context, inForce func([]byte) bool) ([]rotation.Candidate[string], error) {
	select {
	case <-time.After(s.delay):
		return s.world.Others(ctx, inForce)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestCallerThatGivesUpStartsNoBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := engine(), newWorld("new", "old")
		w.accept("old")
		call := w.call()
		call.Candidates = slowOthers{w, 100 * time.Millisecond}
		impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := e.Do(impatient, call); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		if err := e.Do(t.Context(), call); err != nil {
			t.Errorf("old works, and the next caller gets: %v", err)
		}
	})
}

// TestWithdrawnUnderLoad: the requests in flight when a credential is withdrawn
// are refused; what follows is one caller's, not each one's.
func TestWithdrawnUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := engine(), newWorld("a", "b")
		w.accept("a")
		_ = e.Do(t.Context(), w.call())
		w.accept("b")
		w.latency = 100 * time.Millisecond
		start := time.Now()
		var wg sync.WaitGroup
		const callers = 1000
		for range callers {
			wg.Go(func() {
				if err := e.Do(t.Context(), w.call()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if w.refused > callers+1 {
			t.Errorf("%d refused requests of %d callers", w.refused, callers)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %s: the callers went one after the other", took)
		}
	})
}

func TestRestartWaitsForWhatMemoryHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := newMemory(), newWorld("a")
		_ = engineWith(m).Do(t.Context(), w.call()) // leaves a back-off of 30 s
		w.sent()
		e := engineWith(m)
		gate := make(chan struct{})
		m.set(func() { m.gates["scope"] = gate })
		canceled, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- e.Do(canceled, w.call()) }()
		go func() { done <- e.Do(t.Context(), w.call()) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
		wantSent(t, w, "")
		close(gate)
		var refused *rotation.RefusedError
		if err := <-done; !errors.As(err, &refused) {
			t.Errorf("err = %v", err)
		}
		wantSent(t, w, "")
	})
}

func TestMemoryThatCannotBeWrittenLosesNothing(t *testing.T) {
	for name, fault := range map[string]func(*faultyMemory){
		"healthy":        func(*faultyMemory) {},
		"disk full":      func(m *faultyMemory) { m.readOnly = errors.New("no space left on device") },
		"failing wholly": func(m *faultyMemory) { m.failing = errors.New("wrong mode") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, w := newMemory(), newWorld("a")
				fault(m)
				events := 0
				e := rotation.New[string](&rotation.Options{Memory: m, Observer: smartcred.ObserverFunc(func(_ context.Context, event smartcred.Event) {
					if event.Kind == smartcred.EventMemoryFailed {
						events++
					}
				})})
				for range 24 * 60 * 2 {
					_ = e.Do(t.Context(), w.call())
					time.Sleep(30 * time.Second)
				}
				if w.refused > 40 {
					t.Errorf("%d refused requests in a day", w.refused)
				}
				if (events > 0) != (name != "healthy") {
					t.Errorf("%d memory_failed events", events)
				}
				// What was learned is written once memory works again.
				m.set(func() { m.failing, m.readOnly = nil, nil })
				time.Sleep(time.Minute)
				_ = e.Do(t.Context(), w.call())
				w.sent()
				_ = engineWith(m).Do(t.Context(), w.call())
				if name != "failing wholly" { // its identities were under a key of the process
					wantSent(t, w, "")
				}
			})
		})
	}
}

func TestNobodyWaitsForMemoryPastTheirContext(t *testing.T) {
	for _, blocked := range []string{"key", "scope"} {
		t.Run(blocked, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, w := newMemory(), newWorld("a")
				w.accept("a")
				gate := make(chan struct{})
				m.set(func() { m.gates[blocked] = gate })
				e := engineWith(m)
				done := make(chan error, 1)
				go func() { done <- e.Do(t.Context(), w.call()) }()
				synctest.Wait()
				impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				start := time.Now()
				err := e.Do(impatient, w.call())
				if waited := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || waited != 50*time.Millisecond {
					t.Errorf("err = %v after %s", err, waited)
				}
				if err := <-done; err != nil { // memory is given up after 5 s
					t.Errorf("memory that hangs stops everything: %v", err)
				}
				close(gate)
			})
		})
	}
}

func TestStagedIsNotAdoptedWithoutARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := engine(), newWorld("a", "+next")
		w.accept("a", "+next")
		_ = e.Do(t.Context(), w.call())
		w.cut["a"] = &rotation.NotSentError{Err: smartcred.ErrDenied} // throttled, say
		_ = e.Do(t.Context(), w.call())
		delete(w.cut, "a")
		w.sent()
		_ = e.Do(t.Context(), w.call())
		wantSent(t, w, "a")
	})
}

// TestStateOfAClockThatWasAhead: a machine that kept state before its clock was
// set must not stay in a back-off for years.
func TestStateOfAClockThatWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := newMemory(), newWorld("a")
		_ = engineWith(m).Do(t.Context(), w.call())
		m.set(func() {
			for name, kept := range m.kept {
				m.kept[name] = []byte(strings.ReplaceAll(string(kept), "2000-01-01", "2031-01-01"))
			}
		})
		w.accept("a")
		e := engineWith(m)
		start := time.Now()
		for e.Do(t.Context(), w.call()) != nil {
			time.Sleep(time.Minute)
			if time.Since(start) > 2*time.Hour {
				t.Fatal("nothing is sent any more")
			}
		}
	})
}

func TestRefusalOfACallerThatGaveUpIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := newMemory(), newWorld("a")
		e := engineWith(m)
		for range 2000 {
			ctx, cancel := context.WithCancel(t.Context())
			call := w.call()
			call.Send = func(ctx context.Context, value string) error {
				err := w.send(ctx, value)
				cancel()
				return err
			}
			_ = e.Do(ctx, call)
			cancel()
			time.Sleep(40 * time.Second)
		}
		if w.refused > 40 {
			t.Errorf("%d refused requests in 22 hours", w.refused)
		}
	})
}

// TestCodesHaveABudgetOfTheirOwn: they can't lock an account, nor hold up others.
func TestCodesHaveABudgetOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, w := engine(), newWorld("a", "b")
		var refused *rotation.RefusedError
		for range 1000 {
			if err := e.Do(t.Context(), w.code()); !errors.As(err, &refused) {
				t.Fatal(err)
			}
		}
		if w.refused > 12 {
			t.Errorf("%d refused requests by codes", w.refused)
		}
		if !refused.BudgetSpent || time.Until(refused.Until) <= 0 || time.Until(refused.Until) > time.Hour {
			t.Errorf("err = %v", refused)
		}
		w.accept("b")
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Errorf("codes used up what client_credentials have: %v", err)
		}
		if err := e.Do(t.Context(), w.code()); err != nil {
			t.Errorf("a code with what works now: %v", err)
		}
	})
}

// TestMemoryThatWasMovedAway: the next process makes a new key, and this one
// finds out.
func TestMemoryThatWasMovedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, w := newMemory(), newWorld("a", "b")
		w.accept("b")
		e := engineWith(m)
		_ = e.Do(t.Context(), w.call())
		m.set(func() { clear(m.kept) })
		_ = engineWith(m).Do(t.Context(), w.call())
		time.Sleep(2 * time.Minute)
		w.sent()
		_ = e.Do(t.Context(), w.call())
		time.Sleep(2 * time.Minute)
		if err := engineWith(m).Do(t.Context(), w.call()); err != nil {
			t.Error(err)
		}
		if s := engineWith(m).Status(t.Context(), scope); s.InForce.Version != "v-b" {
			t.Errorf("status = %+v: the two do not share what they know", s)
		}
	})
}

func TestPolicyWithoutALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.accept("b")
		e := rotation.New[string](&rotation.Options{Observer: smartcred.Discard, Policy: rotation.Policy{
			FirstRefusal: time.Second, LastRefusal: math.MaxInt64, HourlyBudget: 1000, DailyBudget: 10_000,
		}})
		for range 100 {
			if err := e.Do(t.Context(), w.call()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestFallbackEventNamesWhatWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b", "+next")
		w.accept("+next")
		w.cut["b"] = &rotation.NotSentError{Err: smartcred.ErrDenied}
		var fallbacks []string
		e := rotation.New[string](&rotation.Options{Observer: smartcred.ObserverFunc(func(_ context.Context, event smartcred.Event) {
			if event.Kind == smartcred.EventCredentialFallback {
				fallbacks = append(fallbacks, event.Version)
			}
		})})
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Fatal(err)
		}
		for _, version := range fallbacks {
			if version != "v-a" {
				t.Errorf("fallbacks of %v: the server refused v-a only", fallbacks)
			}
		}
	})
}
