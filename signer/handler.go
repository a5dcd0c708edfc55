package signer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/smartcred/smartcred"
)

// Handler returns the handler that serves the JWK Set (RFC 7517 section 5):
// public members only, in the order next, current, previous. It answers GET and
// HEAD from memory, with Cache-Control and an ETag, and never asks the backend
// for a visitor; without keys to show it answers 503 with Retry-After, never an
// empty set.
//
// It also starts the one goroutine that reads the list again every Refresh, so
// that a revoked key leaves the set although nobody signs. It keeps ctx's values
// but not its cancellation: [KeySet.Close] ends it. The first reading is under
// way when Handler returns; call [KeySet.Published] first to have it done.
func (k *KeySet) Handler(ctx context.Context) http.Handler {
	k.mu.Lock()
	if k.stopServe == nil && !k.closed.Load() {
		ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		k.stopServe = stop
		k.serve.Go(func() { k.keepFresh(ctx) })
	}
	k.mu.Unlock()
	return http.HandlerFunc(k.serveJWKSet)
}

// keepFresh reads the list whenever it is due, until ctx ends.
func (k *KeySet) keepFresh(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		v := k.view.Load()
		if v == nil || !time.Now().Before(v.due) {
			var err error
			v, err = k.flight.Do(ctx, k.opts.Timeout, k.fetch)
			switch {
			case ctx.Err() != nil || errors.Is(err, smartcred.ErrClosed):
				return
			case err != nil: // the signer ended its goroutine
				timer.Reset(k.opts.Refresh)
				continue
			}
		}
		timer.Reset(time.Until(v.due))
	}
}

func (k *KeySet) serveJWKSet(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	v, now := k.view.Load(), time.Now()
	if v != nil && !now.Before(v.until) {
		v = k.replan(r.Context())
	}
	if v == nil || v.err != nil || k.closed.Load() {
		wait := time.Second
		if v != nil {
			wait = max(wait, v.due.Sub(now).Round(time.Second))
		}
		h.Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
		h.Set("Cache-Control", "no-store")
		http.Error(w, "no keys to show at the moment", http.StatusServiceUnavailable)
		return
	}
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(k.opts.MaxAge/time.Second)))
	h.Set("ETag", v.etag)
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(v.body))
}
