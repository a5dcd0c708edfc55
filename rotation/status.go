package rotation

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// A Status is what an [Engine] knows about one client at one server.
type Status struct {
	Scope Scope
	// InForce is the credential that the server took last; zero if none yet.
	InForce Known
	// Adopted says that InForce is a staged credential that serves in the place
	// of the current one.
	Adopted bool
	// Known are the credentials that were sent, in force first, then the ones
	// that worked last.
	Known []Known
	// BackoffUntil is when one caller tries again after all were refused; zero
	// without a back-off.
	BackoffUntil time.Time
	// HourlyBudget and DailyBudget are how many more requests of credentials
	// that never worked at this server may be refused now.
	HourlyBudget, DailyBudget int
	// LastError is what callers get during the back-off; nil without one.
	LastError *RefusedError
}

// Known is a credential that was sent to a server.
type Known struct {
	Version, KeyID string
	// Worked is when the server took it last, to the hour; zero if never.
	Worked time.Time
	// Refusals are those since it worked last; until RefusedUntil it comes last.
	Refusals     int
	RefusedUntil time.Time
}

// Status returns what is known about scope, read anew from memory where there is
// one.
func (e *Engine[C]) Status(ctx context.Context, scope Scope) Status {
	key := e.keys.current(ctx, e.opts.Memory, func(err error) { e.notifyMemory(ctx, scope, err) })
	st := e.state(scope, key)
	_ = e.load(ctx, scope, st, true)
	now := time.Now()
	st.mu.Lock()
	defer st.mu.Unlock()
	r := st.record.clone()
	s := Status{
		Scope:        scope,
		HourlyBudget: max(e.policy.HourlyBudget-within(r.budget().Refused, time.Hour, now), 0),
		DailyBudget:  max(e.policy.DailyBudget-within(r.budget().Refused, 24*time.Hour, now), 0),
	}
	slices.SortStableFunc(r.Known, func(a, b known) int {
		return cmp.Or(cmp.Compare(rank(a.ID == r.InForce), rank(b.ID == r.InForce)), b.Worked.Compare(a.Worked))
	})
	for _, k := range r.Known {
		shown := Known{Version: k.Version, KeyID: k.KeyID, Worked: k.Worked, Refusals: k.Row}
		if now.Before(k.Until) {
			shown.RefusedUntil = k.Until
		}
		if k.ID == r.InForce && !k.Worked.IsZero() {
			s.InForce = shown
			s.Adopted = r.Adopted != nil && r.Adopted.ID == k.ID
		}
		s.Known = append(s.Known, shown)
	}
	if r.Backoff != nil && now.Before(r.Backoff.Until) {
		s.BackoffUntil, s.LastError = r.Backoff.Until, st.last
	}
	return s
}
