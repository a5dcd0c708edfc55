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

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// A pinMemory knows the PINs that tokens have refused, by a keyed hash. It is the
// library's, so that two Signers do not try one wrong PIN twice.
type pinMemory struct {
	key [32]byte // random, for this process

	mu      sync.Mutex
	refused map[string]map[[sha256.Size]byte]bool // by token
}

func (m *pinMemory) hash(pin []byte) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, m.key[:])
	h.Write(pin)
	h.Sum(sum[:0])
	return sum
}

func (m *pinMemory) isRefused(token string, pin []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused[token][m.hash(pin)]
}

func (m *pinMemory) refuse(token string, pin []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused == nil {
		m.refused = map[string]map[[sha256.Size]byte]bool{}
	}
	if m.refused[token] == nil {
		m.refused[token] = map[[sha256.Size]byte]bool{}
	}
	m.refused[token][m.hash(pin)] = true
}

func (m *pinMemory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = nil
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
	if err != nil {
		return fmt.Errorf("look up PIN: %w", err)
	}
	token, err := s.module.lib.GetTokenInfo(slot)
	if err != nil {
		return failed("read the token's flags", err)
	}
	value := pin.Reveal()
	defer clear(value)
	switch {
	case s.module.pins.isRefused(identity(token), value):
		return fmt.Errorf("log in: %w: the token refused this PIN before, so it is not tried again: correct it at its source (or call Reset)", smartcred.ErrDenied)
	case len(value) == 0:
		return fmt.Errorf("log in: %w", &smartcred.ConfigError{Option: "pin-source", Problem: "the PIN is empty"})
	}
	if err := checkFlags(token.Flags, s.opts.TryLowPIN); err != nil {
		return fmt.Errorf("log in to %s: %w", describeToken(slot, token), err)
	}
	err = s.module.lib.Login(session, cryptoki.CKU_USER, string(value))
	switch {
	case err == nil, isCode(err, cryptoki.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case isOne(err, refusedPIN):
		s.module.pins.refuse(identity(token), value)
		return fmt.Errorf("log in to %s: %w: %w: correct the PIN at its source; it is not tried again", describeToken(slot, token), smartcred.ErrDenied, err)
	default:
		return fmt.Errorf("%w: %w", errLogin, failed("C_Login", err))
	}
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
