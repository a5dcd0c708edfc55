package signer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

const (
	defaultRefresh    = time.Minute
	defaultTimeout    = 30 * time.Second
	defaultMaxAge     = 15 * time.Minute
	defaultPublishFor = 24 * time.Hour

	maxStale     = 24 * time.Hour  // how long a list serves while its backend can't be asked
	rereadPause  = 2 * time.Second // between two looks past the cache
	retireAfter  = 24 * time.Hour  // from a successor's start to a key's leaving the set
	maxPublished = 4               // keys of one algorithm in the set
	badKeyPause  = time.Hour       // how long a key whose signature did not verify is passed over
)

// KeySetOptions configure a [KeySet]. The zero value and nil are the safe defaults.
type KeySetOptions struct {
	// KeyID is the kid of the signer's only key, as it was registered. A signer
	// with several keys is then an error at first use; a second key that appears
	// later is left out.
	KeyID string
	// AllowedKIDs closes the list: keys with another kid are left out. Empty: any.
	AllowedKIDs []string
	// Algorithms closes the list too. Empty: any.
	Algorithms []Algorithm
	// RequireNonExportable leaves out keys of which the backend does not say
	// that their private half can't leave it, see [Custody.NonExportable].
	RequireNonExportable bool
	// Revoked lists versions and kids that are never used or published.
	// [KeySet.SetRevoked] replaces it.
	Revoked []string
	// WithoutPrevious revokes every key but the current and the staged ones, as
	// soon as another becomes current.
	WithoutPrevious bool
	// PublishFor is how long a backend publishes a new key before it signs with
	// it; 0: 24 hours. The schedule is the backend's, in [Key.NotBefore]; here it
	// is checked to be at least 2 × MaxAge + Refresh, the time in which every
	// server has fetched the new set.
	PublishFor time.Duration
	// Refresh is how long a list of keys is used before it is read again, and so
	// the longest that a revoked key stays in use; 0: 1 minute.
	Refresh time.Duration
	// Timeout bounds one reading of the list; 0: 30 seconds.
	Timeout time.Duration
	// MaxAge is the Cache-Control max-age of the JWK Set; 0: 15 minutes.
	MaxAge time.Duration
	// Backend names the signer in events: its URI without secrets.
	Backend string
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

// A KeySet is a [Signer] over another: it caches the list of keys, decides which
// of them signs and which are published, and serves the JWK Set, so that both
// agree. It is safe for concurrent use.
//
// For each algorithm the newest key whose NotBefore has passed is the current
// one and signs. Newer ones are next: published, not used. The one before it is
// previous: published, used when a server refuses the current one. Older ones
// leave the set 24 hours after their successor's NotBefore or, where that is
// later and known, its first signature; where neither is known they stay as long
// as the backend lists them. At most four keys of an algorithm are published.
//
// The list is read again every Refresh by whoever asks next, one reading for all
// callers; it is detached from the caller that started it, and each waits on its
// own context. While the backend is unavailable the last list serves on, for 24
// hours at most; any other error is an answer and ends its use. After a failure
// the backend is left alone for the time it asks for (1 second to 5 minutes),
// else 1 second doubling to 60.
//
// The first signature of each key is verified under its public half before it is
// returned.
type KeySet struct {
	signer Signer
	opts   KeySetOptions

	view   atomic.Pointer[view]
	flight flight.Flight[*view]
	calls  flight.Gate // of the signer's Sign
	closed atomic.Bool

	serve     sync.WaitGroup
	stopServe context.CancelFunc // guarded by mu
	closeOnce sync.Once
	closeErr  error

	mu       sync.Mutex // guards what follows, and the making of views
	revoked  map[string]bool
	list     []Key     // the backend's last list; nil if there is none to use
	listed   time.Time // when it was read
	answer   error     // what the backend last answered in place of a list
	outage   error     // why the backend could not be asked last; nil if it could
	failures int       // in a row
	asked    time.Time // when the backend was last asked
	due      time.Time // when to ask again
	pinned   string    // thumbprint of the key that KeyID names
	states   map[string]*keyState
	known    map[string]*entry // what was in use or published last, by thumbprint
	reported map[string]string // why keys are left out, by thumbprint or version
	denied   bool              // EventBackendDenied was sent
}

// keyState is what is learned of a key while it signs.
type keyState struct {
	verified    atomic.Bool  // its first signature was right
	firstSigned atomic.Int64 // Unix nanoseconds, 0 if never
	badUntil    atomic.Int64 // Unix nanoseconds: others sign while there are others
	early       atomic.Bool  // EventKeyActivated was sent although it is staged
}

func (s *keyState) ready(now time.Time) bool { return s.badUntil.Load() <= now.UnixNano() }

// NewKeySet returns a KeySet over s. It asks s for nothing yet: the first use
// does, and [KeySet.Published] is the one to call at start. Close the KeySet to
// close s too.
func NewKeySet(s Signer, opts *KeySetOptions) (*KeySet, error) {
	k := &KeySet{signer: s, states: map[string]*keyState{}, known: map[string]*entry{}, reported: map[string]string{}}
	if opts != nil {
		k.opts = *opts
	}
	o := &k.opts
	setDefault(&o.Refresh, defaultRefresh)
	setDefault(&o.Timeout, defaultTimeout)
	setDefault(&o.MaxAge, defaultMaxAge)
	setDefault(&o.PublishFor, defaultPublishFor)
	var errs []error
	if s == nil {
		errs = append(errs, &smartcred.ConfigError{Option: "signer", Problem: "there is none"})
	}
	if least := 2*o.MaxAge + o.Refresh; o.PublishFor < least {
		errs = append(errs, &smartcred.ConfigError{Option: "publish_for", Problem: fmt.Sprintf(
			"%s is too short: a server may keep the old JWK Set for %s (2 × max-age + refresh)", o.PublishFor, least)})
	}
	for _, alg := range o.Algorithms {
		if alg.Hash() == 0 {
			errs = append(errs, &smartcred.ConfigError{Option: "algorithm", Problem: fmt.Sprintf("%q is unknown", string(alg))})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("signer: make key set: %w", err)
	}
	k.revoked = setOf(o.Revoked)
	return k, nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d <= 0 {
		*d = value
	}
}

func setOf(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[s] = true
	}
	return set
}

// Signing returns the key to sign with now. algorithms are those that the server
// advertises; if none of them has a key that can sign, or if there are none, any
// algorithm will do.
//
// A key that lately could not sign, or whose signature was wrong, is passed over
// while another can: first current ones, then previous ones, then staged ones
// before their time, the oldest first.
func (k *KeySet) Signing(ctx context.Context, algorithms []string) (Key, error) {
	v, err := k.current(ctx)
	if err != nil {
		return Key{}, fmt.Errorf("signer: choose key: %w", err)
	}
	return k.choose(ctx, v, algorithms).key, nil
}

// Published returns the keys of the JWK Set: next, current, previous.
func (k *KeySet) Published(ctx context.Context) ([]Key, error) {
	v, err := k.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("signer: list published keys: %w", err)
	}
	return append([]Key(nil), v.published...), nil
}

// Keys implements [Signer]: the published keys.
func (k *KeySet) Keys(ctx context.Context) ([]Key, error) { return k.Published(ctx) }

// Sign implements [Signer]. Any key will do that the backend lists and that is
// neither left out nor revoked nor retired; another is [smartcred.ErrNotFound]. A first
// signature that does not verify is [ErrBadSignature]. After
// [smartcred.ErrNotFound], [smartcred.ErrDenied] or [ErrBadSignature],
// [KeySet.Signing] returns another key, if there is one.
func (k *KeySet) Sign(ctx context.Context, key Key, signingInput []byte) ([]byte, error) {
	v, err := k.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("signer: sign with key %q: %w", key.ID, err)
	}
	e := v.find(key)
	if e == nil {
		return nil, fmt.Errorf("signer: sign with key %q: %w among the keys in use", key.ID, smartcred.ErrNotFound)
	}
	sig, err := k.askSigner(ctx, e.listed, signingInput)
	if err != nil {
		if errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied) {
			k.passOver(ctx, e, k.opts.Refresh, err)
			k.expire()
		}
		return nil, fmt.Errorf("signer: sign with key %q: %w", key.ID, err)
	}
	if !e.state.verified.Load() {
		if err := Verify(e.key, signingInput, sig); err != nil {
			k.passOver(ctx, e, badKeyPause, err)
			return nil, err
		}
		e.state.firstSigned.CompareAndSwap(0, time.Now().UnixNano())
		e.state.verified.Store(true)
	}
	return sig, nil
}

// askSigner keeps Close from closing the signer under the call.
func (k *KeySet) askSigner(ctx context.Context, key Key, signingInput []byte) ([]byte, error) {
	if !k.calls.Enter() {
		return nil, smartcred.ErrClosed
	}
	defer k.calls.Leave()
	return k.signer.Sign(ctx, key, signingInput)
}

// Newer asks the backend past the cache, at most once in 2 seconds and not while
// it asked to be left alone, and returns the key that signs now for than's
// algorithm (or, where none does, any), and whether it is another one.
//
// Where the backend can't be asked and the last list serves on, the key of that
// list comes together with an error that is [smartcred.ErrUnavailable]: whether
// there is a newer one could not be looked up.
func (k *KeySet) Newer(ctx context.Context, than Key) (Key, bool, error) {
	v, err := k.reread(ctx)
	if err != nil {
		return Key{}, false, fmt.Errorf("signer: look for a newer key: %w", err)
	}
	key := k.choose(ctx, v, []string{string(than.Algorithm)}).key
	if v.outage != nil {
		err = fmt.Errorf("signer: look for a newer key: %w", v.outage)
	}
	return key, !samePublic(key.Public, than.Public), err
}

// SetRevoked replaces the list of revoked versions and kids. It holds from the
// moment it returns.
func (k *KeySet) SetRevoked(ctx context.Context, revoked []string) {
	k.mu.Lock()
	k.revoked = setOf(revoked)
	var events []smartcred.Event
	if k.view.Load() != nil {
		events = k.plan(time.Now())
	}
	k.mu.Unlock()
	k.notify(ctx, events)
}

// Close ends the reading of the list and the goroutine that [KeySet.Handler]
// started, and closes the signer if it can be closed: after the calls under way
// in it have ended, or after 5 seconds. Afterwards the methods return
// [smartcred.ErrClosed]. A second call returns what the first did.
func (k *KeySet) Close() error {
	k.closeOnce.Do(func() {
		k.closed.Store(true)
		reading, signing := k.flight.Shut(), k.calls.Shut()
		k.mu.Lock()
		if k.stopServe != nil {
			k.stopServe()
		}
		k.mu.Unlock()
		k.serve.Wait()
		flight.Land(reading, signing)
		if c, ok := k.signer.(io.Closer); ok {
			k.closeErr = c.Close()
		}
	})
	return k.closeErr
}

// choose returns the entry to sign with, and says so when it is a staged one.
func (k *KeySet) choose(ctx context.Context, v *view, algorithms []string) *entry {
	e := v.choose(algorithms, time.Now())
	if e.role == RoleNext && e.state.early.CompareAndSwap(false, true) {
		k.notify(ctx, []smartcred.Event{k.event(smartcred.EventKeyActivated, e.key,
			"no other key can sign: this one signs before its time", nil)})
	}
	return e
}

// passOver keeps an entry from being chosen for a while.
func (k *KeySet) passOver(ctx context.Context, e *entry, pause time.Duration, why error) {
	now := time.Now()
	if was := e.state.badUntil.Swap(now.Add(pause).UnixNano()); was <= now.UnixNano() {
		k.notify(ctx, []smartcred.Event{k.event(smartcred.EventKeyLeftOut, e.key,
			fmt.Sprintf("it can't sign; others sign for %s, if there are others", pause), why)})
	}
}

func (k *KeySet) event(kind smartcred.EventKind, key Key, detail string, err error) smartcred.Event {
	return smartcred.Event{Kind: kind, Version: key.Version, KeyID: key.ID, Backend: k.opts.Backend, Detail: detail, Err: err}
}

func (k *KeySet) notify(ctx context.Context, events []smartcred.Event) {
	for _, e := range events {
		smartcred.Notify(ctx, k.opts.Observer, e)
	}
}

func samePublic(a, b crypto.PublicKey) bool {
	if a == b {
		return true
	}
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
