//go:build cgo

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
)

// errLost says that a connection is not what it was; the next one may be.
var errLost = errors.New("the connection to the token was lost")

// A connection is a token that was found and logged in to, with a bounded pool of
// sessions. It ends when any of it is lost: nothing is mended in place.
type connection struct {
	module     *module
	generation int
	slot       uint
	token      cryptoki.TokenInfo
	login      bool // it was made with a PIN

	anchor cryptoki.SessionHandle // holds the login while other sessions come and go
	idle   chan cryptoki.SessionHandle

	mu    sync.Mutex
	open  int
	ended bool
	keys  []tokenKey // what was listed last, with handles
}

const noSession cryptoki.SessionHandle = 0 // a place in the pool that was not used yet

// connect finds the token and logs in, after a restart of the library where that
// may help.
func (s *Signer) connect(ctx context.Context) (*connection, error) {
	c, generation, err := s.connectOnce(ctx)
	gone := errors.Is(err, errNoToken) || isOne(err, lost) && !errors.Is(err, errLogin)
	if gone && s.module.restart(ctx, generation, err) {
		c, _, err = s.connectOnce(ctx)
	}
	return c, err
}

func (s *Signer) connectOnce(ctx context.Context) (*connection, int, error) {
	generation, err := s.module.enter(ctx)
	if err != nil {
		return nil, generation, err
	}
	defer s.module.leave()
	slot, token, err := s.module.find(s.opts.Token)
	if err != nil {
		return nil, generation, err
	}
	anchor, err := s.module.openSession(slot)
	if err != nil {
		return nil, generation, failed("open a session", err)
	}
	if err := s.login(ctx, slot, anchor); err != nil {
		_ = s.module.lib.CloseSession(anchor)
		return nil, generation, err
	}
	size := s.opts.MaxSessions
	if most := token.MaxSessionCount; most != cryptoki.CK_EFFECTIVELY_INFINITE && most != cryptoki.CK_UNAVAILABLE_INFORMATION && most > 1 {
		size = min(size, int(most)-1)
	}
	c := &connection{module: s.module, generation: generation, slot: slot, token: token, login: s.opts.PIN != nil, anchor: anchor, idle: make(chan cryptoki.SessionHandle, size)}
	for range size {
		c.idle <- noSession
	}
	s.module.connected(+1)
	return c, generation, nil
}

func (m *module) openSession(slot uint) (cryptoki.SessionHandle, error) {
	return m.lib.OpenSession(slot, cryptoki.CKF_SERIAL_SESSION)
}

// take returns a place in the pool.
func (c *connection) take(ctx context.Context) (cryptoki.SessionHandle, error) {
	select {
	case session := <-c.idle:
		return session, nil
	case <-ctx.Done():
		return noSession, ctx.Err()
	}
}

// use runs fn inside the library with a session in the place that was taken, and
// gives the place back. After an error the session may have an operation half
// done: it is closed.
func (c *connection) use(ctx context.Context, session cryptoki.SessionHandle, fn func(cryptoki.SessionHandle) error) (err error) {
	generation, err := c.module.enter(ctx)
	if err != nil {
		c.idle <- session
		return err
	}
	defer c.module.leave()
	if generation != c.generation || c.isEnded() {
		c.idle <- noSession // its session ended with the library, or in end
		return errLost
	}
	for session == noSession {
		session, err = c.module.openSession(c.slot)
		switch {
		case err == nil:
			c.opened()
		case isCode(err, cryptoki.CKR_SESSION_COUNT) && c.shrink():
			if session, err = c.take(ctx); err != nil {
				return err
			}
		default:
			c.idle <- noSession
			return failed("open a session", err)
		}
	}
	err = fn(session)
	c.giveBack(session, err == nil)
	return err
}

func (c *connection) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
}

// shrink reports whether there are sessions to wait for, where the token opens no
// more: the place in the pool that was taken is given up then.
func (c *connection) shrink() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open > 0
}

// giveBack returns a session to the pool, or closes it and returns its place.
func (c *connection) giveBack(session cryptoki.SessionHandle, usable bool) {
	c.mu.Lock()
	if usable = usable && !c.ended; usable {
		c.idle <- session // has room, so that the lock is not held for long
	} else {
		c.open--
	}
	c.mu.Unlock()
	if !usable {
		_ = c.module.lib.CloseSession(session)
		c.idle <- noSession
	}
}

// end closes the sessions that are not in use; those in use are closed after it.
func (c *connection) end() {
	c.mu.Lock()
	again := c.ended
	c.ended = true
	c.mu.Unlock()
	if again {
		return
	}
	c.module.connected(-1)
	if !c.module.reenter(c.generation) {
		return
	}
	defer c.module.leave()
	_ = c.module.lib.CloseSession(c.anchor)
	for range cap(c.idle) {
		select {
		case session := <-c.idle:
			if session != noSession {
				_ = c.module.lib.CloseSession(session)
			}
			c.idle <- noSession
		default:
		}
	}
}

func (c *connection) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// check says whether the token is the one it was and the login holds: a library
// answers for a token that is gone, and for keys that a logout hid, as where there
// are none. The caller is inside.
func (c *connection) check(session cryptoki.SessionHandle) error {
	token, err := c.module.lib.GetTokenInfo(c.slot)
	if err != nil {
		return failed("look whether the token is there", fmt.Errorf("%w: %w", errLost, err))
	}
	now, err := c.module.lib.GetSessionInfo(session)
	if err != nil {
		return failed("look whether the login holds", fmt.Errorf("%w: %w", errLost, err))
	}
	if identity(token) != identity(c.token) || c.login && !loggedIn(now) {
		return &smartcred.UnavailableError{Err: errLost}
	}
	return nil
}
