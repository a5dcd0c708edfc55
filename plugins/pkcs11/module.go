//go:build cgo

package pkcs11

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
)

const (
	restartPause  = time.Second      // between two restarts of a library
	sharedPause   = 10 * time.Second // the same while others of its tokens are in use
	restartedWait = 5 * time.Second  // how long a restart waits for calls under way
)

// modules are the libraries that this process has loaded. They stay: unloading C
// code whose threads and exit handlers are unknown is not safe.
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// A module is a PKCS#11 library. It belongs to the process: all Signers share its
// initialization, its logins and what it is known to refuse.
type module struct {
	lib  *cryptoki.Ctx
	pins pinMemory

	mu          sync.Mutex
	users       int // Signers that hold it
	connections int // of Signers, not lost
	initialized bool
	ours        bool          // C_Initialize was called here, so C_Finalize may be
	generation  int           // of handles: those of another mean nothing
	inside      int           // callers in the library
	empty       chan struct{} // where somebody waits for inside to be 0
	changing    chan struct{} // closed when a start, restart or end is over
	restarted   time.Time
	logins      map[uint]chan struct{} // by slot: holds a token while somebody logs in
}

// loadModule returns the library at a path, which was checked, for one more user.
func loadModule(path string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	m := modules.byPath[path]
	if m == nil {
		lib := cryptoki.New(path)
		if lib == nil {
			return nil, &smartcred.ConfigError{Option: moduleOption, Problem: path + " can't be loaded: it is no PKCS#11 library of this machine's architecture, or lacks a library that it needs itself (ldd names it)"}
		}
		m = &module{lib: lib, logins: map[uint]chan struct{}{}}
		_, _ = rand.Read(m.pins.key[:]) // never fails
		modules.byPath[path] = m
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
	return m, nil
}

// release gives the library up. The last one ends it, unless a call hangs in it.
func (m *module) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users--; m.users > 0 || !m.initialized || m.inside > 0 || m.changing != nil {
		return
	}
	if m.ours {
		m.change(func() { _ = m.lib.Finalize() })
	}
	m.initialized = false
	m.generation++
}

// change runs fn without m.mu while nobody enters. m.mu is held, and nobody else
// is changing.
func (m *module) change(fn func()) {
	changing := make(chan struct{})
	m.changing = changing
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.changing = nil
		close(changing)
	}()
	fn()
}

// enter counts a caller in, whose handles must be of the generation returned. The
// first one initializes the library.
func (m *module) enter(ctx context.Context) (generation int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		switch {
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case m.changing != nil:
			changing := m.changing
			m.mu.Unlock()
			select {
			case <-changing:
			case <-ctx.Done():
			}
			m.mu.Lock()
		case !m.initialized:
			m.change(func() { err = m.lib.Initialize() })
			// Another binding in this process may have initialized it, and then ends it.
			m.ours = err == nil
			if err != nil && !isCode(err, cryptoki.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
				return 0, failed("initialize the library", err)
			}
			m.initialized, err = true, nil
			m.generation++
		default:
			m.inside++
			return m.generation, nil
		}
	}
}

// reenter counts a caller in to whom handles of a generation are left, and reports
// whether they still mean anything.
func (m *module) reenter(generation int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.changing != nil {
		changing := m.changing
		m.mu.Unlock()
		<-changing
		m.mu.Lock()
	}
	if !m.initialized || m.generation != generation {
		return false
	}
	m.inside++
	return true
}

func (m *module) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inside--; m.inside == 0 && m.empty != nil {
		close(m.empty)
		m.empty = nil
	}
}

// restart ends the library, so that the next caller starts it again: many notice
// a token that came or changed only then. It is for a caller that is outside, and
// reports whether it pays to look again.
func (m *module) restart(ctx context.Context, generation int, why error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	pause := restartPause
	if m.connections > 0 {
		pause = sharedPause
	}
	switch {
	case m.generation != generation || m.changing != nil || !m.initialized:
		return true // somebody did
	case isCode(why, cryptoki.CKR_CRYPTOKI_NOT_INITIALIZED):
		m.initialized = false // somebody else in this process ended it
		m.generation++
		return true
	case !m.ours || time.Since(m.restarted) < pause:
		return false
	}
	m.restarted = time.Now()
	done := false
	m.change(func() {
		if m.emptied(ctx) {
			_ = m.lib.Finalize()
			done = true
		}
	})
	if done {
		m.initialized = false
		m.generation++
	}
	return done
}

// emptied waits until nobody is inside.
func (m *module) emptied(ctx context.Context) bool {
	m.mu.Lock()
	if m.inside == 0 {
		m.mu.Unlock()
		return true
	}
	empty := make(chan struct{})
	m.empty = empty
	m.mu.Unlock()
	timeout := time.NewTimer(restartedWait)
	defer timeout.Stop()
	select {
	case <-empty:
		return true
	case <-ctx.Done():
	case <-timeout.C:
	}
	return false
}

func (m *module) connected(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.connections += n
}

// lockLogin keeps others from logging in to a slot.
func (m *module) lockLogin(ctx context.Context, slot uint) (unlock func(), err error) {
	m.mu.Lock()
	turn := m.logins[slot]
	if turn == nil {
		turn = make(chan struct{}, 1)
		m.logins[slot] = turn
	}
	m.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// find returns the one slot whose token is meant. The caller is inside.
func (m *module) find(t TokenSelector) (slot uint, info cryptoki.TokenInfo, err error) {
	slots, err := m.lib.GetSlotList(true)
	if err != nil {
		return 0, info, failed("list slots", err)
	}
	var others, matching []string
	var unreadable error
	for _, s := range slots {
		ti, err := m.lib.GetTokenInfo(s)
		switch {
		case err != nil:
			unreadable = err
		case ti.Flags&cryptoki.CKF_TOKEN_INITIALIZED == 0:
		case !t.matches(s, ti):
			others = append(others, describeToken(s, ti))
		default:
			slot, info = s, ti
			matching = append(matching, describeToken(s, ti))
		}
	}
	switch {
	case len(matching) == 1:
		return slot, info, nil
	case len(matching) > 1:
		return 0, info, &smartcred.ConfigError{Option: "token", Problem: "several tokens match, add serial or token: " + list(matching)}
	case len(others) > 0:
		err = fmt.Errorf("%w: there are %s", errNoToken, list(others))
	case unreadable != nil:
		err = fmt.Errorf("%w: %w", errNoToken, unreadable)
	default:
		err = fmt.Errorf("%w: the library has none", errNoToken)
	}
	return 0, info, &smartcred.UnavailableError{Err: err}
}

var errNoToken = errors.New("no token matches")

func (t TokenSelector) matches(slot uint, ti cryptoki.TokenInfo) bool {
	have := map[string]string{"token": ti.Label, "serial": ti.SerialNumber, "manufacturer": ti.ManufacturerID, "model": ti.Model}
	for _, name := range t.empty {
		if have[name] != "" {
			return false
		}
	}
	is := func(want, have string) bool { return want == "" || want == have }
	return (t.Slot == nil || *t.Slot == slot) && is(t.Label, ti.Label) && is(t.Serial, ti.SerialNumber) &&
		is(t.Manufacturer, ti.ManufacturerID) && is(t.Model, ti.Model)
}

func describeToken(slot uint, ti cryptoki.TokenInfo) string {
	return fmt.Sprintf("token %q with serial %q in slot %d", ti.Label, ti.SerialNumber, slot)
}
