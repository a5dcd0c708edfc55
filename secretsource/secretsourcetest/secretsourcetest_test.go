package secretsourcetest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// A store is a backend in memory, with a fault where a test wants one.
type store struct {
	fault string

	mu      sync.Mutex
	values  []string // newest first
	removed bool
	denied  bool
	stopped bool
	garbled bool
	stalled chan struct{} // closed when the backend answers
}

const token = "kit-backend-token-0123456789abcdef"

func newStore(fault string) *store {
	s := &store{fault: fault, stalled: make(chan struct{})}
	close(s.stalled)
	return s
}

func (s *store) harness() *Harness {
	set := func(field *bool) func(*testing.T) func() {
		put := func(v bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			*field = v
		}
		return func(*testing.T) func() {
			put(true)
			return func() { put(false) }
		}
	}
	return &Harness{
		Open: func(*testing.T) secretsource.Source {
			return &client{store: s, done: make(chan struct{}), memory: map[secretsource.Stage]secretsource.Secret{}}
		},
		Set: func(_ *testing.T, value string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.values = append([]string{value}, s.values...)
		},
		HasPrevious: true,
		Remove: func(*testing.T) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.removed = true
		},
		Deny: set(&s.denied), Stop: set(&s.stopped), Garble: set(&s.garbled),
		Stall: func(*testing.T) func() {
			stalled := make(chan struct{})
			s.mu.Lock()
			defer s.mu.Unlock()
			s.stalled = stalled
			return func() { close(stalled) }
		},
		Secrets: []string{token},
	}
}

// A client is a Source over the store.
type client struct {
	store *store
	done  chan struct{}

	mu     sync.Mutex
	memory map[secretsource.Stage]secretsource.Secret
	closed bool
}

func (c *client) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.store
	if c.closed && s.fault != "works after Close" {
		return secretsource.Secret{}, smartcred.ErrClosed
	}
	if kept, ok := c.memory[stage]; ok && s.fault == "caches" {
		return kept, nil
	}
	c.mu.Unlock()
	secret, err := s.answer(ctx, stage)
	c.mu.Lock()
	if err == nil {
		c.memory[stage] = secret
	}
	return secret, err
}

func (s *store) answer(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if s.fault == "ignores contexts" {
		<-stalled
	} else {
		select {
		case <-stalled:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return secretsource.Secret{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(err error) (secretsource.Secret, error) { return secretsource.Secret{}, err }
	switch {
	case s.denied && s.fault == "denial is not found":
		return fail(smartcred.ErrNotFound)
	case s.denied:
		return fail(smartcred.ErrDenied)
	case s.stopped && s.fault == "outage is an answer":
		return fail(smartcred.ErrNotFound)
	case s.stopped:
		return fail(&smartcred.UnavailableError{Err: errors.New("connection refused")})
	case s.garbled && s.fault == "error holds what was answered":
		return fail(&smartcred.UnavailableError{Err: errors.New("unexpected answer: X-Token: " + token)})
	case s.garbled:
		return fail(&smartcred.UnavailableError{Err: errors.New("the answer is no JSON")})
	}
	if stage != secretsource.Current && stage != secretsource.Previous && s.fault != "any stage" {
		return fail(smartcred.ErrNotFound)
	}
	values := s.values
	if s.removed && s.fault != "previous stands in" {
		values = nil
	} else if s.removed {
		values = values[1:]
	}
	at := 0
	if stage == secretsource.Previous {
		at = 1
	}
	switch {
	case s.fault == "previous is current" && len(values) > 0:
		at = 0
	case at < len(values):
	case s.fault == "nothing is no error":
		return secretsource.Secret{}, nil
	default:
		return fail(smartcred.ErrNotFound)
	}
	version := fmt.Sprint(len(values) - at)
	switch s.fault {
	case "no version":
		version = ""
	case "version tells":
		version = "value " + values[at]
	case "version is a hash":
		version = fmt.Sprintf("v-%.6x", sha256.Sum256([]byte(values[at])))
	case "one version":
		version = "latest"
	case "trims":
		return secretsource.New([]byte(strings.Split(values[at], " ")[0]), version), nil
	}
	secret := secretsource.New([]byte(values[at]), version)
	if s.fault == "current since just now" {
		secret.Created = time.Now()
	}
	return secret, nil
}

func (c *client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && c.store.fault == "second Close fails" {
		return errors.New("closed already")
	}
	c.closed = true
	if c.store.fault == "leaves a goroutine" {
		go func() { <-c.done }()
	}
	return nil
}

func TestRunPassesAGoodBackend(t *testing.T) {
	Run(t, func(t *testing.T) *Harness { return newStore("").harness() })
}

func TestCheckPassesAGoodBackend(t *testing.T) {
	h := newStore("").harness()
	h.Set(t, firstValue)
	if err := Check(t.Context(), h.Open(t)); err != nil {
		t.Error(err)
	}
}

func TestCheckNamesEveryPromise(t *testing.T) {
	h := newStore("any stage").harness()
	h.Set(t, firstValue)
	if err := Check(t.Context(), h.Open(t)); err == nil || !strings.Contains(err.Error(), "a stage that does not exist") {
		t.Errorf("not caught: %v", err)
	}
}

// brokenBackends are the promises that each fault breaks, with the words that the
// author of the backend needs.
var brokenBackends = map[string]struct{ promise, says string }{
	"no version":                    {"Current", "the secret has no version"},
	"version tells":                 {"Redaction", "holds the value"},
	"version is a hash":             {"Redaction", "is a hash of the value"},
	"current since just now":        {"Current", "differ in Created"},
	"any stage":                     {"UnknownStage", "it did not fail"},
	"ignores contexts":              {"ContextEndsDuring", "it was not back 3s after its context ended"},
	"caches":                        {"Values", "is not the one"},
	"trims":                         {"Values", "is not the one"},
	"one version":                   {"Values", "two values have one version"},
	"previous is current":           {"Previous", "there never was another secret: it did not fail"},
	"nothing is no error":           {"Empty", "current: it did not fail"},
	"previous stands in":            {"Removed", "it did not fail"},
	"denial is not found":           {"Denied", `none that errors.Is "denied"`},
	"outage is an answer":           {"Unavailable", "none that errors.Is smartcred.ErrUnavailable"},
	"error holds what was answered": {"Garbage", "an error holds a secret"},
	"works after Close":             {"Close", "after Close, Lookup did not fail"},
	"second Close fails":            {"Close", "the first Close returned nil, the second: closed already"},
	"leaves a goroutine":            {"Goroutines", "goroutines were there before"},
}

func TestRunCatchesBrokenBackends(t *testing.T) {
	for _, fault := range slices.Sorted(maps.Keys(brokenBackends)) {
		want := brokenBackends[fault]
		t.Run(fault, func(t *testing.T) {
			at := slices.IndexFunc(promises, func(p promise) bool { return p.name == want.promise })
			if at < 0 {
				t.Fatalf("no promise %s", want.promise)
			}
			p := promises[at]
			err := p.examine(t, newStore(fault).harness())
			if err == nil {
				t.Fatalf("%s: not caught", want.promise)
			}
			if !strings.Contains(err.Error(), want.says) || !strings.Contains(err.Error(), "broken promise: "+p.says) {
				t.Errorf("%s: %v; want it to say %q", want.promise, err, want.says)
			}
			for _, value := range []string{firstValue, secondValue} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("the failure shows the secret: %v", err)
				}
			}
		})
	}
}

// Time that is up breaks no promise.
func TestCheckThatRunsOutOfTime(t *testing.T) {
	h := newStore("").harness()
	h.Set(t, firstValue)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Check(ctx, h.Open(t))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "broken promise") {
		t.Errorf("Check = %v", err)
	}
}
