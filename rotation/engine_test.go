package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

var (
	errRefused = errors.New("refused")
	errOutage  = errors.New("503")
	scope      = rotation.Scope{ClientID: "app", Server: "https://ehr.example.test/r4"}
)

// world is a source and a server: what one has and the other takes.
type world struct {
	mu       sync.Mutex
	current  string
	others   []string // previous first; a name that begins with + is staged
	fails    error    // of current
	accepts  map[string]bool
	cut      map[string]error // what Send returns instead
	latency  time.Duration
	requests []string // values sent, refused or not
	refused  int
	lookups  int       // past the cache
	looked   time.Time // the last of them
	cached   string
}

func newWorld(current string, others ...string) *world {
	return &world{current: current, cached: current, others: others, accepts: map[string]bool{}, cut: map[string]error{}}
}

func (w *world) accept(values ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepts = map[string]bool{}
	for _, v := range values {
		w.accepts[v] = true
	}
}

func candidate(value string) rotation.Candidate[string] {
	c := rotation.Candidate[string]{Identity: []byte(value), Version: "v-" + value, Value: value}
	if strings.HasPrefix(value, "+") {
		c.Stage = rotation.Staged
	}
	return c
}

func (w *world) Current(context.Context) (rotation.Candidate[string], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return candidate(w.cached), w.fails
}

func (w *world) Others(context.Context, func([]byte) bool) ([]rotation.Candidate[string], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []rotation.Candidate[string]
	for _, value := range w.others {
		c := candidate(value)
		if c.Stage == rotation.Current {
			c.Stage = rotation.Previous
		}
		out = append(out, c)
	}
	return out, nil
}

// Newer is limited to one look in 2 s, as the sources' caches are.
func (w *world) Newer(context.Context, rotation.Candidate[string]) (rotation.Candidate[string], error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.looked.IsZero() || now.Sub(w.looked) >= 2*time.Second {
		w.looked = now
		w.lookups++
		w.cached = w.current
	}
	return candidate(w.cached), w.fails
}

func (w *world) send(ctx context.Context, value string) error {
	w.mu.Lock()
	w.requests = append(w.requests, value)
	latency, cut, ok := w.latency, w.cut[value], w.accepts[value]
	w.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch {
	case cut != nil:
		return cut
	case ok:
		return nil
	}
	w.mu.Lock()
	w.refused++
	w.mu.Unlock()
	return fmt.Errorf("%w %s", errRefused, value)
}

func (w *world) call() rotation.Call[string] {
	return rotation.Call[string]{
		Scope: scope, Candidates: w, Send: w.send,
		Refused: func(err error) bool { return errors.Is(err, errRefused) },
	}
}

func (w *world) code() rotation.Call[string] {
	c := w.call()
	c.SingleUse = true
	return c
}

// sent returns the values sent since the last call of sent.
func (w *world) sent() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := strings.Join(w.requests, " ")
	w.requests = nil
	return out
}

func engine() *rotation.Engine[string] {
	return rotation.New[string](&rotation.Options{Observer: smartcred.Discard})
}

func wantSent(t *testing.T, w *world, want string) {
	t.Helper()
	if got := w.sent(); got != want {
		t.Errorf("sent %q, want %q", got, want)
	}
}

func TestCurrentIsSentFirstAndAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("new", "old")
		w.accept("new", "old")
		e := engine()
		for range 3 {
			if err := e.Do(t.Context(), w.call()); err != nil {
				t.Fatal(err)
			}
		}
		wantSent(t, w, "new new new")
		if w.lookups != 0 {
			t.Errorf("%d look-ups past the cache without a refusal", w.lookups)
		}
	})
}

func TestRefusedCurrentFallsBackAndComesLastForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("new", "old")
		w.accept("old")
		e := engine()
		do := func() {
			t.Helper()
			if err := e.Do(t.Context(), w.call()); err != nil {
				t.Fatal(err)
			}
		}
		do()
		wantSent(t, w, "new old")
		do()
		wantSent(t, w, "old")
		time.Sleep(31 * time.Second) // the refusal is over: new may be taken by now
		do()
		wantSent(t, w, "new old")
		time.Sleep(31 * time.Second) // the second refusal lasts twice as long
		do()
		wantSent(t, w, "old")
		w.accept("new")
		do() // refused out of the blue: once more, then new is sent whatever its refusal
		wantSent(t, w, "old old new")
		do()
		wantSent(t, w, "new")
	})
}

func TestAnotherValueAtTheSourceIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.accept("a")
		e := engine()
		_ = e.Do(t.Context(), w.call())
		w.mu.Lock()
		w.current, w.others = "b", []string{"a"}
		w.mu.Unlock()
		w.accept("b")
		w.sent()
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Fatal(err)
		}
		wantSent(t, w, "a b")
	})
}

// TestProvenCurrentIsSentOnceMore: some servers refuse valid requests.
func TestProvenCurrentIsSentOnceMore(t *testing.T) {
	tests := map[string]struct {
		others []string
		single bool
		want   string
	}{
		"alone":                               {nil, false, "a a"},
		"with a previous one":                 {[]string{"old"}, false, "a a old"},
		"previous and staged leave no room":   {[]string{"old", "+next"}, false, "a old +next"},
		"a code alone":                        {nil, true, "a a"},
		"a code with a previous one: no room": {[]string{"old"}, true, "a old"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld("a", test.others...)
				w.accept("a")
				e := engine()
				_ = e.Do(t.Context(), w.call())
				w.sent()
				w.accept()
				call := w.call()
				call.SingleUse = test.single
				if err := e.Do(t.Context(), call); !errors.Is(err, errRefused) {
					t.Errorf("err = %v", err)
				}
				wantSent(t, w, test.want)
			})
		})
	}
}

func TestUnprovenIsNotSentTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		_ = engine().Do(t.Context(), w.call())
		wantSent(t, w, "a")
	})
}

func TestColdStartOfManyCallersIsOneCallersTrial(t *testing.T) {
	for name, single := range map[string]bool{"client_credentials": false, "codes": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld("wrong", "right")
				w.accept("right")
				w.latency = 100 * time.Millisecond
				e := engine()
				var wg sync.WaitGroup
				for range 10_000 {
					wg.Go(func() {
						call := w.call()
						call.SingleUse = single
						if err := e.Do(t.Context(), call); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if w.refused != 1 {
					t.Errorf("%d refused requests, want 1", w.refused)
				}
			})
		})
	}
}

func TestAllRefusedAtAColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.latency = 100 * time.Millisecond
		e := engine()
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				err := e.Do(t.Context(), w.call())
				var refused *rotation.RefusedError
				if !errors.As(err, &refused) || !errors.Is(err, errRefused) {
					t.Errorf("err = %v", err)
				}
			})
		}
		wg.Wait()
		wantSent(t, w, "a b")
		// In the back-off nothing is sent, codes included.
		for range 23 {
			time.Sleep(time.Second)
			if err := e.Do(t.Context(), w.call()); !errors.Is(err, errRefused) {
				t.Errorf("err = %v", err)
			}
			if err := e.Do(t.Context(), w.code()); !errors.Is(err, errRefused) {
				t.Errorf("err = %v", err)
			}
		}
		wantSent(t, w, "")
		time.Sleep(8 * time.Second)
		_ = e.Do(t.Context(), w.call())
		wantSent(t, w, "a b")
	})
}

func TestErrorNamesTheVersionsCurrentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b", "+c")
		err := engine().Do(t.Context(), w.call())
		var refused *rotation.RefusedError
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		var versions []string
		for _, a := range refused.Attempts {
			versions = append(versions, a.Version)
		}
		if !slices.Equal(versions, []string{"v-a", "v-b", "v-+c"}) {
			t.Errorf("versions = %v", versions)
		}
		for _, want := range []string{"current (version v-a)", "previous (version v-b)", "staged (version v-+c)"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %v", want, err)
			}
		}
	})
}

func TestOtherErrorsEndTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.accept("b")
		w.cut["a"] = errOutage
		e := engine()
		if err := e.Do(t.Context(), w.call()); !errors.Is(err, errOutage) {
			t.Errorf("err = %v", err)
		}
		wantSent(t, w, "a")
		delete(w.cut, "a")
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Errorf("an outage moved the state: %v", err)
		}
		wantSent(t, w, "a b")
	})
}

func TestBackOffEndsWithAnotherValueOrReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		e := engine()
		_ = e.Do(t.Context(), w.call())
		w.sent()
		w.mu.Lock()
		w.current = "b"
		w.mu.Unlock()
		w.accept("b")
		time.Sleep(2 * time.Second)
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Errorf("2 s after the source changed: %v", err)
		}
		wantSent(t, w, "b")

		w.accept()
		_ = e.Do(t.Context(), w.call()) // b worked: it is sent twice
		_ = e.Do(t.Context(), w.call())
		wantSent(t, w, "b b")
		w.accept("b")
		e.Reset(t.Context(), scope)
		if err := e.Do(t.Context(), w.call()); err != nil {
			t.Errorf("after Reset: %v", err)
		}
	})
}

func TestRepairedAtTheServerHealsWithinFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.accept("a")
		e := engine()
		_ = e.Do(t.Context(), w.call())
		w.accept()
		for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(time.Second) {
			_ = e.Do(t.Context(), w.call())
		}
		w.accept("a")
		repaired := time.Now()
		for e.Do(t.Context(), w.call()) != nil {
			time.Sleep(time.Second)
			if time.Since(repaired) > 5*time.Minute {
				t.Fatal("not healed after 5 minutes")
			}
		}
	})
}

func TestBudgetOfWhatNeverWorked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		e := engine()
		var refusals []time.Time
		start := time.Now()
		for time.Since(start) < 72*time.Hour {
			before := w.refused
			_ = e.Do(t.Context(), w.call())
			for range w.refused - before {
				refusals = append(refusals, time.Now())
			}
			time.Sleep(5 * time.Second)
		}
		within := func(window time.Duration) int {
			most := 0
			for i := range refusals {
				n := 0
				for _, at := range refusals[i:] {
					if at.Sub(refusals[i]) < window {
						n++
					}
				}
				most = max(most, n)
			}
			return most
		}
		if n := within(time.Hour); n > 12 {
			t.Errorf("%d refused requests in an hour", n)
		}
		if n := within(24 * time.Hour); n > 40 {
			t.Errorf("%d refused requests in 24 hours", n)
		}
		if last := refusals[len(refusals)-1]; time.Since(last) > 90*time.Minute {
			t.Errorf("the last try was %s ago: one request an hour remains", time.Since(last))
		}
		w.accept("b")
		healed := time.Now()
		for e.Do(t.Context(), w.call()) != nil {
			time.Sleep(time.Minute)
			if time.Since(healed) > 3*time.Hour {
				t.Fatal("b, which the server takes now, is not tried any more")
			}
		}
	})
}

// TestNewValueAtEveryLookUp: a source that goes wild costs 4 requests an hour
// more than the budget.
func TestNewValueAtEveryLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("0")
		e := engine()
		for n := range 6 * 3600 {
			w.mu.Lock()
			w.current = fmt.Sprint(n)
			w.mu.Unlock()
			_ = e.Do(t.Context(), w.call())
			time.Sleep(time.Second)
		}
		if most := 40 + 6*4; w.refused > most {
			t.Errorf("%d refused requests in 6 hours, want %d at most", w.refused, most)
		}
	})
}

func TestStagedCredentialIsAdopted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "old", "+next")
		w.accept("+next")
		var kinds []string
		e := rotation.New[string](&rotation.Options{Observer: smartcred.ObserverFunc(func(_ context.Context, event smartcred.Event) {
			kinds = append(kinds, string(event.Kind))
		})})
		_ = e.Do(t.Context(), w.call())
		wantSent(t, w, "a old +next")
		time.Sleep(time.Hour) // the refusals of the others are over
		_ = e.Do(t.Context(), w.call())
		wantSent(t, w, "+next")
		if s := e.Status(t.Context(), scope); !s.Adopted || s.InForce.Version != "v-+next" {
			t.Errorf("status = %+v", s)
		}
		w.mu.Lock()
		w.current, w.cached = "newest", "newest" // a newer one is ready
		w.mu.Unlock()
		w.accept("newest", "+next")
		_ = e.Do(t.Context(), w.call())
		wantSent(t, w, "newest")
		want := []string{"credential_fallback", "credential_fallback", "credential_selected", "credential_selected"}
		if !slices.Equal(kinds, want) {
			t.Errorf("events = %v, want %v", kinds, want)
		}
	})
}

func TestWhatCannotBeUsedIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.accept("b")
		w.cut["a"] = &rotation.NotSentError{Err: smartcred.ErrDenied}
		e := engine()
		for range 20 {
			if err := e.Do(t.Context(), w.call()); err != nil {
				t.Fatal(err)
			}
		}
		w.cut["b"] = &rotation.NotSentError{Err: smartcred.ErrNotFound}
		err := e.Do(t.Context(), w.call())
		var refused *rotation.RefusedError
		if !errors.Is(err, smartcred.ErrDenied) || !errors.Is(err, smartcred.ErrNotFound) || errors.As(err, &refused) {
			t.Errorf("err = %v: the server was not asked", err)
		}
	})
}

func TestRevokedCurrentIsNotReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.accept("b")
		w.fails = smartcred.ErrNotFound
		if err := engine().Do(t.Context(), w.call()); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("err = %v", err)
		}
		wantSent(t, w, "")
	})
}

func TestHopelessRefusalTriesNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.accept("b")
		call := w.call()
		call.Hopeless = call.Refused
		e := engine()
		if err := e.Do(t.Context(), call); !errors.Is(err, errRefused) {
			t.Errorf("err = %v", err)
		}
		_ = e.Do(t.Context(), call)
		wantSent(t, w, "a")
	})
}

func TestRefusedCodesStartNoBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		e := engine()
		for range 5 {
			if err := e.Do(t.Context(), w.code()); !errors.Is(err, errRefused) {
				t.Errorf("err = %v", err)
			}
		}
		if s := e.Status(t.Context(), scope); !s.BackoffUntil.IsZero() || len(s.Known) != 0 {
			t.Errorf("status = %+v: refused codes moved the state", s)
		}
	})
}

func TestLeaderThatGivesUpPassesTheTurnOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		w.accept("a")
		w.latency = time.Minute
		e := engine()
		leader, cancel := context.WithCancel(t.Context())
		done := make(chan error, 3)
		go func() { done <- e.Do(leader, w.call()) }()
		synctest.Wait()
		impatient, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		go func() { done <- e.Do(impatient, w.call()) }()
		go func() { done <- e.Do(t.Context(), w.call()) }()
		synctest.Wait()
		wantSent(t, w, "a")
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a waiting caller: err = %v, want its own deadline", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the leader: err = %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("the next one: err = %v", err)
		}
		wantSent(t, w, "a")
	})
}

func TestScopesAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a")
		e := engine()
		_ = e.Do(t.Context(), w.call())
		w.accept("a")
		other := w.call()
		other.Scope.Server = "https://another.example.test"
		if err := e.Do(t.Context(), other); err != nil {
			t.Errorf("one server's back-off holds another up: %v", err)
		}
	})
}
