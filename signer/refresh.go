package signer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/backoff"
)

// current returns the view to act on now: the last one, read again if it is due.
func (k *KeySet) current(ctx context.Context) (*view, error) {
	if k.closed.Load() {
		return nil, smartcred.ErrClosed
	}
	v, now := k.view.Load(), time.Now()
	if v == nil || !now.Before(v.due) {
		call := k.flight.Start(ctx, k.opts.Timeout, k.fetch)
		// In an outage nobody waits for the backend: the stale list serves, and
		// the view that the flight brings takes over when it comes.
		if v == nil || v.outage == nil {
			var err error
			if v, err = call.Wait(ctx); err != nil {
				return nil, err
			}
		}
	}
	if !now.Before(v.until) {
		v = k.replan(ctx)
	}
	return v, v.err
}

// reread is current past the cache.
func (k *KeySet) reread(ctx context.Context) (*view, error) {
	k.expire()
	return k.current(ctx)
}

// expire makes the list due, unless the backend was asked a moment ago or is
// being left alone.
func (k *KeySet) expire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	now, v := time.Now(), k.view.Load()
	if v == nil || k.outage != nil || now.Sub(k.asked) < rereadPause {
		return
	}
	k.due = now
	expired := *v
	expired.due = now
	k.view.Store(&expired)
}

// fetch asks the backend for its keys and makes a view of the answer.
func (k *KeySet) fetch(ctx context.Context) (*view, error) {
	k.mu.Lock()
	if v := k.view.Load(); v != nil && time.Now().Before(v.due) {
		k.mu.Unlock()
		return v, nil // another flight landed between the caller's look and its start
	}
	k.asked = time.Now()
	k.mu.Unlock()

	list, err := k.signer.Keys(ctx)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("the signer lists no keys: %w", smartcred.ErrNotFound)
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, smartcred.ErrUnavailable) {
		err = &smartcred.UnavailableError{Err: err}
	}

	k.mu.Lock()
	if k.closed.Load() {
		k.mu.Unlock()
		return nil, smartcred.ErrClosed
	}
	events := k.learn(list, err, time.Now())
	v := k.view.Load()
	k.mu.Unlock()
	k.notify(ctx, events)
	return v, nil
}

// learn takes in what the backend answered. k.mu is held.
func (k *KeySet) learn(list []Key, err error, now time.Time) []smartcred.Event {
	var events []smartcred.Event
	if err == nil {
		k.list, k.listed, k.answer, k.outage, k.failures, k.denied = list, now, nil, nil, 0, false
		k.due = now.Add(k.opts.Refresh)
		return k.plan(now)
	}
	k.failures++
	k.due = now.Add(backoff.Pause(err, k.failures))
	if errors.Is(err, smartcred.ErrUnavailable) {
		if k.outage == nil && k.list != nil && now.Before(k.listed.Add(maxStale)) {
			events = append(events, k.event(smartcred.EventStaleInUse, Key{}, fmt.Sprintf(
				"the list of keys read at %s serves on, until %s at most",
				k.listed.UTC().Format(time.RFC3339), k.listed.Add(maxStale).UTC().Format(time.RFC3339)), err))
		}
		k.outage = err
		return append(events, k.plan(now)...)
	}
	k.list, k.answer, k.outage = nil, err, nil
	if errors.Is(err, smartcred.ErrDenied) && !k.denied {
		k.denied = true
		events = append(events, k.event(smartcred.EventBackendDenied, Key{}, "the signer's keys can't be listed", err))
	}
	return append(events, k.plan(now)...)
}

// replan makes a new view of the list that is there, because time has passed.
func (k *KeySet) replan(ctx context.Context) *view {
	k.mu.Lock()
	now := time.Now()
	var events []smartcred.Event
	if !now.Before(k.view.Load().until) {
		events = k.plan(now)
	}
	v := k.view.Load()
	k.mu.Unlock()
	k.notify(ctx, events)
	return v
}
