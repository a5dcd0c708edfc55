//go:build cgo

package pkcs11

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

const maxMatching = 64 // private keys that one selector may name

// A tokenKey is a private key in a token.
type tokenKey struct {
	signer.Key
	handle cryptoki.ObjectHandle
	thumb  string
	dated  bool // it has a CKA_START_DATE
}

// Keys implements [signer.Signer].
func (s *Signer) Keys(ctx context.Context) ([]signer.Key, error) {
	keys, err := run(ctx, s, func(c *connection, session cryptoki.SessionHandle) ([]tokenKey, error) {
		return s.list(ctx, c, session)
	})
	if err != nil {
		return nil, fmt.Errorf("pkcs11: list keys: %w", err)
	}
	out := make([]signer.Key, len(keys))
	for i, k := range keys {
		out[i] = k.Key
		out[i].Public = clonePublic(k.Public)
	}
	return out, nil
}

// list reads the keys, newest first, and remembers their handles. The caller is
// inside.
func (s *Signer) list(ctx context.Context, c *connection, session cryptoki.SessionHandle) ([]tokenKey, error) {
	var all []tokenKey
	var leftOut error
	take := func(role string, selector KeySelector) ([]tokenKey, error) {
		if selector.IsZero() {
			return nil, nil
		}
		found, unusable, err := s.match(ctx, c, session, selector)
		if err != nil {
			return nil, err
		}
		leftOut = errors.Join(leftOut, unusable)
		found = slices.DeleteFunc(found, func(k tokenKey) bool {
			return slices.ContainsFunc(all, func(other tokenKey) bool { return other.handle == k.handle || other.thumb == k.thumb })
		})
		all = append(all, found...)
		var missing error
		if len(found) == 0 && role != "" {
			missing = smartcred.ErrNotFound
		}
		s.report(ctx, role, "", role+" names no key that can be used", missing)
		return found, nil
	}
	next, err := take("next", s.opts.Next)
	if err != nil {
		return nil, err
	}
	for i := range next {
		next[i].NotBefore = signer.Unscheduled
	}
	named, err := take("", s.opts.Key)
	if err != nil {
		return nil, err
	}
	previous, err := take("previous", s.opts.Previous)
	if err != nil {
		return nil, err
	}
	if named, err = s.schedule(named); err != nil {
		return nil, err
	}
	all = slices.Concat(next, named, previous)
	distinguish(all)
	if leftOut != nil { // a logout hides public halves too, where they are private objects
		if err := c.check(session); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, s.noKey(c, leftOut)
	}
	c.mu.Lock()
	c.keys = all
	c.mu.Unlock()
	return all, nil
}

// distinguish makes versions differ where several keys have one CKA_ID.
func distinguish(keys []tokenKey) {
	count := map[string]int{}
	for _, k := range keys {
		count[k.Version]++
	}
	for i, k := range keys {
		if count[k.Version] > 1 {
			keys[i].Version += distinction + k.thumb[:8]
		}
	}
}

const distinction = "~"

// noKey says why there is no key to use.
func (s *Signer) noKey(c *connection, leftOut error) error {
	if errors.Is(leftOut, smartcred.ErrUnsupportedAlgorithm) {
		return fmt.Errorf("private key %s: %w", s.opts.Key, leftOut)
	}
	if errors.Is(leftOut, errMalformed) {
		return &smartcred.UnavailableError{Err: fmt.Errorf("private key %s: %w", s.opts.Key, leftOut)}
	}
	if leftOut != nil {
		return fmt.Errorf("private key %s that can be used: %w: %w", s.opts.Key, smartcred.ErrNotFound, leftOut)
	}
	hint := ""
	switch id := string(s.opts.Key.ID); {
	case s.opts.PIN == nil:
		hint = ": without pin-source there is no login, which most private keys need to be seen"
	case len(id) > 1 && len(id)%2 == 0 && strings.Trim(id, "0123456789abcdefABCDEF") == "":
		hint = ": id takes the bytes of CKA_ID percent-encoded, so that 01 of pkcs11-tool is id=%01"
	}
	return fmt.Errorf("private key %s: %w in %s%s", s.opts.Key, smartcred.ErrNotFound, describeToken(c.slot, c.token), hint)
}

// schedule puts the newest first, by CKA_START_DATE. Of keys without one nothing
// tells the newest: the one that was alone before stays the one that signs.
func (s *Signer) schedule(keys []tokenKey) ([]tokenKey, error) {
	slices.SortStableFunc(keys, func(a, b tokenKey) int {
		if order := b.NotBefore.Compare(a.NotBefore); order != 0 {
			return order
		}
		return strings.Compare(a.Version+a.thumb, b.Version+b.thumb)
	})
	undated := slices.IndexFunc(keys, func(k tokenKey) bool { return !k.dated })
	if undated < 0 || keys[0].dated && !keys[undated-1].NotBefore.After(time.Now()) {
		return keys, nil // a dated one has taken over
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys)-undated == 1 {
		s.settled = keys[undated].thumb
		return keys, nil
	}
	settled := slices.IndexFunc(keys, func(k tokenKey) bool { return !k.dated && k.thumb == s.settled })
	if settled < 0 {
		return nil, &smartcred.ConfigError{Option: "object", Problem: fmt.Sprintf(
			"%d keys match %s and have no CKA_START_DATE, so that nothing tells the newest: add id to name one, and next= or previous= for the other", len(keys)-undated, s.opts.Key)}
	}
	stays := keys[settled]
	others := slices.Delete(slices.Clone(keys), settled, settled+1)
	for i := undated; i < len(others); i++ {
		others[i].NotBefore = signer.Unscheduled
	}
	return append(slices.Concat(others[undated:], others[:undated]), stays), nil
}

// match returns the keys that a selector names and that can sign, and why others
// can't.
func (s *Signer) match(ctx context.Context, c *connection, session cryptoki.SessionHandle, selector KeySelector) (keys []tokenKey, leftOut, err error) {
	template := []*cryptoki.Attribute{
		cryptoki.NewAttribute(cryptoki.CKA_CLASS, cryptoki.CKO_PRIVATE_KEY),
		cryptoki.NewAttribute(cryptoki.CKA_TOKEN, true),
	}
	if selector.Label != "" {
		template = append(template, cryptoki.NewAttribute(cryptoki.CKA_LABEL, selector.Label))
	}
	if len(selector.ID) > 0 {
		template = append(template, cryptoki.NewAttribute(cryptoki.CKA_ID, selector.ID))
	}
	handles, err := c.findObjects(session, template)
	if err == nil && len(handles) == 0 {
		// The login may have been lost before, and made anew by another call since.
		if err = c.check(session); err == nil {
			handles, err = c.findObjects(session, template)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if len(handles) > maxMatching {
		return nil, nil, &smartcred.ConfigError{Option: "object", Problem: fmt.Sprintf("over %d keys match %s: name fewer", maxMatching, selector)}
	}
	for i, h := range handles {
		key, why := c.describe(session, h, s.opts.Algorithm)
		switch {
		case why == nil:
			keys = append(keys, key)
		case !errors.As(why, new(unusableError)):
			return nil, nil, why
		case errors.Is(why, errMalformed):
			key.Version = fmt.Sprintf("number %d", i+1)
		}
		s.report(ctx, key.Version, key.Version, "the key can't be used", why)
		leftOut = errors.Join(leftOut, why)
	}
	return keys, leftOut, nil
}

// An unusableError says why a key is left out.
type unusableError struct{ error }

func (e unusableError) Unwrap() error { return e.error }

func unusable(format string, args ...any) error { return unusableError{fmt.Errorf(format, args...)} }

// errMalformed: what the token says of a key makes no sense. No part of it is
// shown then.
var errMalformed = errors.New("malformed attribute")

func malformed(what string) error { return unusable("%w: %s", errMalformed, what) }

// describe reads a private key's attributes and finds its public half. The
// version is there also where the key can't be used.
func (c *connection) describe(session cryptoki.SessionHandle, h cryptoki.ObjectHandle, asked signer.Algorithm) (tokenKey, error) {
	a, err := c.read(session, h,
		cryptoki.CKA_KEY_TYPE, cryptoki.CKA_ID, cryptoki.CKA_LABEL, cryptoki.CKA_SIGN, cryptoki.CKA_ALWAYS_AUTHENTICATE,
		cryptoki.CKA_LOCAL, cryptoki.CKA_NEVER_EXTRACTABLE, cryptoki.CKA_ALWAYS_SENSITIVE, cryptoki.CKA_EXTRACTABLE, cryptoki.CKA_SENSITIVE)
	if err != nil {
		return tokenKey{}, err
	}
	key := tokenKey{handle: h}
	key.Version = version(a)
	if sign, said := a.flag(cryptoki.CKA_SIGN); said && !sign {
		return key, unusable("CKA_SIGN is false: it may not sign")
	}
	if ask, _ := a.flag(cryptoki.CKA_ALWAYS_AUTHENTICATE); ask {
		return key, unusable("CKA_ALWAYS_AUTHENTICATE is true: it asks for the PIN at each signature, which is not supported")
	}
	var end time.Time
	if key.NotBefore, end, err = c.dates(session, h, a); err != nil {
		return key, err
	}
	key.dated = !key.NotBefore.IsZero()
	if !end.IsZero() && !time.Now().Before(end) {
		return key, unusable("CKA_END_DATE has passed: %s", end.AddDate(0, 0, -1).Format(time.DateOnly))
	}
	if key.Public, err = c.public(session, h, a); err != nil {
		return key, err
	}
	if key.Algorithm, err = signer.AlgorithmFor(key.Public, asked); err != nil {
		return key, unusableError{err}
	}
	if key.thumb, err = signer.Thumbprint(key.Public); err != nil {
		return key, unusableError{err}
	}
	key.ID = key.thumb
	key.Custody = custody(a, c.token)
	return key, nil
}

func version(a objectAttributes) string {
	if id := a[cryptoki.CKA_ID]; len(bytes.Trim(id, "\x00")) > 0 || len(id) == 1 {
		return hex.EncodeToString(id)
	}
	return "label:" + string(a[cryptoki.CKA_LABEL])
}

// report tells of what is left out when the reason changes; a nil why forgets it.
func (s *Signer) report(ctx context.Context, subject, version, detail string, why error) {
	s.mu.Lock()
	known := s.reported[subject]
	if why == nil {
		delete(s.reported, subject)
	} else {
		s.reported[subject] = why.Error()
	}
	s.mu.Unlock()
	if why == nil || known == why.Error() {
		return
	}
	smartcred.Notify(ctx, s.opts.Observer, smartcred.Event{
		Kind: smartcred.EventKeyLeftOut, Version: version, Backend: s.opts.backend(), Detail: detail, Err: why,
	})
}
