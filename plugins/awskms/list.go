package awskms

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/signer"
)

// A listing is one reading of the list.
type listing struct {
	*Signer
	reasons []error // why names are left out
}

// list returns the keys that the names stand for now, newest first: next ones,
// the current one, what was current before, previous ones.
//
// A name whose key can't be used is left out with an event, the current one too:
// where a key was disabled in an emergency, the others sign. That a key could not
// be looked at is no such answer, and fails the list.
func (s *Signer) list(ctx context.Context) ([]*entry, error) {
	l := &listing{Signer: s}
	next, err := l.lookAll(ctx, s.opts.Next)
	if err != nil {
		return nil, err
	}
	current, before, err := l.currentKeys(ctx)
	if err != nil {
		return nil, err
	}
	previous, err := l.lookAll(ctx, s.opts.Previous)
	if err != nil {
		return nil, err
	}
	// The nearest of the next ones signs first in an emergency: it counts as the oldest.
	slices.Reverse(next)
	for _, e := range next {
		e.key.NotBefore = signer.Unscheduled
	}
	entries := without(next, current)
	for _, more := range [][]*entry{current, before, previous} {
		entries = append(entries, without(more, entries)...)
	}
	if len(entries) == 0 {
		return nil, errors.Join(l.reasons...)
	}
	s.remember(ctx, entries, current)
	return entries, nil
}

// isAnswer tells what AWS says of a key from what keeps it from saying.
func isAnswer(err error) bool {
	return errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied) || errors.Is(err, smartcred.ErrUnsupportedAlgorithm)
}

// look returns the key of a name; nil if it is left out.
func (l *listing) look(ctx context.Context, name string) (*entry, error) {
	e, err := l.describe(ctx, name)
	if err != nil {
		if !isAnswer(err) {
			return nil, err
		}
		if name != l.key && isAlias(name) && errors.Is(err, smartcred.ErrNotFound) {
			// A next or previous alias is there only while there is such a key.
			l.report(ctx, name, nil, "")
			return nil, nil
		}
		l.leaveOut(ctx, name, err, "what "+name+" names can't be used")
		return nil, nil
	}
	l.report(ctx, name, nil, "")
	return e, nil
}

func (l *listing) lookAll(ctx context.Context, names []string) ([]*entry, error) {
	var entries []*entry
	for _, name := range names {
		e, err := l.look(ctx, name)
		if err != nil {
			return nil, err
		}
		entries = append(entries, some(e)...)
	}
	return entries, nil
}

func (l *listing) leaveOut(ctx context.Context, name string, why error, detail string) {
	l.reasons = append(l.reasons, why)
	l.report(ctx, name, why, detail)
}

// currentKeys returns the key to sign with, with one that waits to take its place
// before it, and what was current before. It is not the one that the name stands
// for as long as that one can't sign, but another did under this name.
func (l *listing) currentKeys(ctx context.Context) (current, before []*entry, err error) {
	now, why := l.describe(ctx, l.key)
	if why != nil && !isAnswer(why) {
		return nil, nil, why
	}
	l.mu.Lock()
	signed, former := l.signed, l.former
	l.mu.Unlock()
	// A name that stands for no key at all revokes the keys that it stood for.
	gone := errors.Is(why, smartcred.ErrNotFound)
	if former != "" && !gone && (now == nil || now.key.Version != former) {
		e, err := l.look(ctx, former)
		if err != nil {
			return nil, nil, err
		}
		before = some(e)
	}
	var worked *entry
	moved := signed != "" && !gone && (now == nil || now.key.Version != signed)
	if moved {
		if worked, err = l.look(ctx, signed); err != nil {
			return nil, nil, err
		}
	}
	const stays = "; the key signed with before stays current"
	switch {
	case now == nil && worked != nil:
		l.leaveOut(ctx, l.key, why, "what "+l.key+" names can't be used"+stays)
		return some(worked), before, nil
	case now == nil:
		if !moved || len(l.reasons) == 0 { // else the same was said of its ARN
			l.leaveOut(ctx, l.key, why, "what "+l.key+" names can't be used")
		}
		return nil, before, nil
	case worked != nil:
		if err := l.try(ctx, now); err != nil {
			if ctx.Err() != nil {
				return nil, nil, err
			}
			l.report(ctx, l.key, err, "what "+l.key+" names can't sign yet, so it is published only"+stays)
			now.key.NotBefore = signer.Unscheduled
			return []*entry{now, worked}, before, nil
		}
	}
	l.report(ctx, l.key, nil, "")
	return some(now), append(some(worked), before...), nil
}

func some(e *entry) []*entry {
	if e == nil {
		return nil
	}
	return []*entry{e}
}

// without returns entries whose keys are not among others: replicas of one key,
// and a key that is named twice, are one.
func without(entries, others []*entry) []*entry {
	var left []*entry
	for _, e := range entries {
		same := func(o *entry) bool { return o.key.ID == e.key.ID }
		if !slices.ContainsFunc(others, same) && !slices.ContainsFunc(left, same) {
			left = append(left, e)
		}
	}
	return left
}

// try has a key sign once, before it takes the place of one that works.
func (s *Signer) try(ctx context.Context, e *entry) error {
	s.mu.Lock()
	tried := e.known.tried
	s.mu.Unlock()
	if tried {
		return nil
	}
	input := []byte("smartcred: a signature on trial")
	sig, err := s.sign(ctx, e.key.Version, e.known, input)
	if err == nil {
		err = signer.Verify(e.key, input, sig)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.known.tried = true
	return nil
}

// remember takes note of what is listed, and warns of a current key that was
// never published before.
func (s *Signer) remember(ctx context.Context, entries, current []*entry) {
	s.mu.Lock()
	s.lists++
	event := smartcred.Event{Kind: smartcred.EventKeyUnannounced, Backend: s.backend}
	// Not at the first list: a program that ends after one call has no use for it.
	warn := s.isSingle && s.lists == 2
	if warn {
		event.Detail = "an alias alone has no next key: before it is moved, name the new one with next= until servers have it"
	}
	for _, e := range current {
		if e.key.NotBefore.IsZero() && s.current != e.key.Version {
			if s.current != "" && !e.known.listed {
				warn = true
				event.Version, event.KeyID = e.key.Version, e.key.ID
				event.Detail = "the alias was moved to a key that was not published before: servers may not have it yet; name keys to come with next="
			}
			s.current = e.key.Version
		}
	}
	for _, e := range entries {
		e.known.listed = true
	}
	s.mu.Unlock()
	if warn {
		smartcred.Notify(ctx, s.opts.Observer, event)
	}
}

// report tells why a name's key is left out, or waits, when the reason changes; a
// nil why forgets it.
func (s *Signer) report(ctx context.Context, name string, why error, detail string) {
	s.mu.Lock()
	was := s.reported[name]
	now := ""
	if why != nil {
		now = fmt.Sprintf("%s %T", detail, why)
		var e *awsclient.Error
		if errors.As(why, &e) { // without its request id, which is another one each time
			now = detail + e.Action + e.Resource + e.Problem
		}
	}
	s.reported[name] = now
	s.mu.Unlock()
	if why == nil || was == now {
		return
	}
	smartcred.Notify(ctx, s.opts.Observer, smartcred.Event{
		Kind: smartcred.EventKeyLeftOut, Backend: s.backend, BackendCorrelationID: awsclient.RequestID(why), Detail: detail, Err: why,
	})
}
