//go:build cgo

package pkcs11

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// A pinMemory knows how tokens took PINs, by a keyed hash. It is the library's, so
// that two Signers do not try one wrong PIN twice.
type pinMemory struct {
	key [32]byte // random, for this process

	mu   sync.Mutex
	pins map[pinOfToken]*attempts // that were not taken
}

type pinOfToken struct {
	token string
	pin   [sha256.Size]byte
}

// attempts are those of one PIN in a row.
type attempts struct {
	refused bool
	vague   int // failed without a word on the PIN
	until   time.Time
}

// vaguePauses follow logins that failed without a word on the PIN: each may have
// cost a try, and the token may not tell.
var vaguePauses = []time.Duration{time.Second, time.Minute, 10 * time.Minute, time.Hour}

func (m *pinMemory) of(token string, pin []byte) pinOfToken {
	h := hmac.New(sha256.New, m.key[:])
	h.Write(pin)
	p := pinOfToken{token: token}
	h.Sum(p.pin[:0])
	return p
}

// check says why a PIN is not to be sent to a token now.
func (m *pinMemory) check(token string, pin []byte, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch a := m.pins[m.of(token, pin)]; {
	case a == nil:
		return nil
	case a.refused:
		return fmt.Errorf("%w: the token refused this PIN before, so it is not tried again: correct it at its source (or call Reset)", smartcred.ErrDenied)
	case now.Before(a.until):
		return &smartcred.UnavailableError{RetryAfter: a.until.Sub(now), Err: fmt.Errorf("C_Login failed %d times and did not say whether the PIN is wrong, so it waits (or call Reset)", a.vague)}
	}
	return nil
}

func (m *pinMemory) refuse(token string, pin []byte) {
	m.failed(token, pin, func(a *attempts) { a.refused = true })
}

// doubt is told of a login that failed without a word on the PIN.
func (m *pinMemory) doubt(token string, pin []byte, now time.Time) {
	m.failed(token, pin, func(a *attempts) {
		a.vague++
		a.until = now.Add(vaguePauses[min(a.vague, len(vaguePauses))-1])
	})
}

func (m *pinMemory) failed(token string, pin []byte, how func(*attempts)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(token, pin)
	if m.pins == nil {
		m.pins = map[pinOfToken]*attempts{}
	}
	if m.pins[p] == nil {
		m.pins[p] = &attempts{}
	}
	how(m.pins[p])
}

func (m *pinMemory) taken(token string, pin []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pins, m.of(token, pin))
}

func (m *pinMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pins = nil
}

// identity names a token: a slot's number does not, because it changes.
func identity(ti cryptoki.TokenInfo) string {
	return strings.Join([]string{ti.ManufacturerID, ti.Model, ti.SerialNumber, ti.Label}, "\x00")
}

// login logs the process in to the token of a session, where it is not yet. The
// caller is inside.
func (s *Signer) login(ctx context.Context, slot uint, session cryptoki.SessionHandle) error {
	if s.opts.PIN == nil {
		return nil
	}
	unlock, err := s.module.lockLogin(ctx, slot)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := s.module.lib.GetSessionInfo(session)
	if err != nil {
		return failed("look whether the login holds", err)
	}
	if loggedIn(state) {
		return nil
	}
	// Read last thing before the login: another process may have tried meanwhile.
	pin, err := s.opts.PIN.Lookup(ctx, secretsource.Current)
	if errors.Is(err, smartcred.ErrNotFound) { // which says nothing of the key
		return fmt.Errorf("%w: look up PIN: %s", smartcred.ErrDenied, err)
	}
	if err != nil {
		return fmt.Errorf("look up PIN: %w", err)
	}
	token, err := s.module.lib.GetTokenInfo(slot)
	if err != nil {
		return failed("read the token's flags", err)
	}
	value := pin.Reveal()
	defer clear(value)
	if len(value) == 0 {
		return fmt.Errorf("log in: %w", &smartcred.ConfigError{Option: "pin-source", Problem: "the PIN is empty"})
	}
	if err := s.module.pins.check(identity(token), value, time.Now()); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	if err := checkFlags(token.Flags, s.opts.TryLowPIN); err != nil {
		return fmt.Errorf("log in to %s: %w", describeToken(slot, token), err)
	}
	err = s.module.lib.Login(session, cryptoki.CKU_USER, string(value))
	switch {
	case err == nil, isCode(err, cryptoki.CKR_USER_ALREADY_LOGGED_IN):
		s.module.pins.taken(identity(token), value)
		return nil
	case isOne(err, refusedPIN):
		s.module.pins.refuse(identity(token), value)
		return fmt.Errorf("log in to %s: %w: %w: correct the PIN at its source; it is not tried again", describeToken(slot, token), smartcred.ErrDenied, err)
	case !isOne(err, innocent):
		s.module.pins.doubt(identity(token), value, time.Now())
	}
	return fmt.Errorf("%w: %w", errLogin, failed("C_Login", err))
}

// errLogin is a login that failed without a word on the PIN. It may have cost a
// try all the same: only a new connection repeats it.
var errLogin = errors.New("log in")

func loggedIn(session cryptoki.SessionInfo) bool {
	return session.State == cryptoki.CKS_RO_USER_FUNCTIONS || session.State == cryptoki.CKS_RW_USER_FUNCTIONS
}

// checkFlags says whether a wrong PIN would cost too much to try (PKCS#11 v2.40
// section 3.2, CK_TOKEN_INFO).
func checkFlags(flags uint, tryLow bool) error {
	switch {
	case flags&cryptoki.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("%w: the token says that its user PIN is locked: the security officer must set it anew", smartcred.ErrDenied)
	case flags&cryptoki.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("%w: the token says that one more wrong PIN locks it, so none is tried: log in once with the vendor's own tool, or pkcs11-tool --login", smartcred.ErrDenied)
	case flags&cryptoki.CKF_USER_PIN_COUNT_LOW != 0 && !tryLow:
		return fmt.Errorf("%w: the token says that a wrong PIN was tried since the last login, so none is tried: check the PIN and log in once with the vendor's own tool, or pkcs11-tool --login, or add pin-count-low=try to the URI for one start", smartcred.ErrDenied)
	default:
		return nil
	}
}
