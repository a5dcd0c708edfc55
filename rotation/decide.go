package rotation

import (
	"cmp"
	"slices"
	"time"
)

// A step is what a caller does next.
type step int

const (
	stepSend      step = iota
	stepOthers         // look the other credentials up
	stepAsk            // look current up past the cache
	stepWait           // wait until the turn is passed on
	stepFail           // return an error at once
	stepExhausted      // nothing is left to send
)

type decision[C any] struct {
	step      step
	candidate sent[C]       // with stepSend
	turn      chan struct{} // with stepWait
	err       error         // with stepFail
}

// decide applies the rules to what is known now.
func (c *caller[C]) decide(now time.Time) decision[C] {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	r := &c.state.record
	if !c.leading {
		if b := r.Backoff; b != nil && b.Current == c.current.id {
			if now.Before(b.Until) {
				return c.backedOff(b)
			}
			c.trial = true
		} else {
			c.trial = false
		}
	}
	if c.sends >= c.limit {
		return decision[C]{step: stepExhausted}
	}
	if !c.listed && r.Adopted != nil && r.Adopted.Over == c.current.id {
		return decision[C]{step: stepOthers}
	}

	if k := r.find(c.again); !c.leading && k != nil && k.Sent.After(c.refusedAt) && r.underRefusal(c.again, now) {
		c.again = id{} // another caller sent it once more, and it was refused
	}
	blocked := false
	for _, last := range []bool{false, true} {
		for _, x := range c.order(r, last || c.trial) {
			if x.id != c.again && slices.Contains(c.tried, x.id) {
				continue
			}
			by := withinBudget
			if !r.proven(x.id) {
				if by = r.permit(c.engine.policy, x.id, c.call.SingleUse, now); by == forbidden {
					continue
				}
			}
			// The one request an hour is for all in turn, so it goes by age too.
			comesLast := by == asSpare || x.LastResort || r.underRefusal(x.id, now) && !c.trial && x.id != c.again
			if comesLast != last {
				continue
			}
			// After a refusal of its own, a caller waits until somebody has seen
			// that the next credential works: others may have been refused too.
			needsTurn := c.trial || last || !r.proven(x.id) || c.sends > 0 && !r.workedSince(x.id, c.refusedAt)
			if needsTurn && !c.leading {
				if c.state.leader != nil {
					blocked = true
					continue
				}
				c.state.leader, c.leading = make(chan struct{}), true
			}
			if x.id == c.again {
				c.again = id{}
			}
			return decision[C]{step: stepSend, candidate: sent[C]{x, by}}
		}
		if !c.listed {
			return decision[C]{step: stepOthers}
		}
		if blocked {
			return decision[C]{step: stepWait, turn: c.state.leader}
		}
	}
	return decision[C]{step: stepExhausted}
}

// backedOff is what a caller gets while a back-off lasts: the error of the call
// that began it, after a look whether current is another one now.
func (c *caller[C]) backedOff(b *backoff) decision[C] {
	if !c.asked {
		return decision[C]{step: stepAsk}
	}
	failed := RefusedError{Scope: c.call.Scope, Until: b.Until}
	if c.state.last != nil {
		failed = *c.state.last
	}
	return decision[C]{step: stepFail, err: &failed}
}

// order is current, previous, staged; an adopted credential comes first, and
// where current can't be used the one that the server took last does. Those under
// refusal, and all in a trial, go by age: the one sent longest ago first.
func (c *caller[C]) order(r *record, byAge bool) []candidate[C] {
	order := append([]candidate[C]{c.current}, c.others...)
	if byAge {
		slices.SortStableFunc(order, func(a, b candidate[C]) int {
			return r.lastSent(a.id).Compare(r.lastSent(b.id))
		})
		return order
	}
	first := id{}
	if r.Adopted != nil && r.Adopted.Over == c.current.id {
		first = r.Adopted.ID
	} else if c.unusable || c.current.LastResort {
		first = r.InForce
	}
	if first != (id{}) {
		slices.SortStableFunc(order, func(a, b candidate[C]) int {
			return cmp.Compare(rank(a.id == first), rank(b.id == first))
		})
	}
	return order
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

func (r *record) lastSent(i id) time.Time {
	if k := r.find(i); k != nil {
		return k.Sent
	}
	return time.Time{}
}
