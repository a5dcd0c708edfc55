package program

import (
	"time"

	"github.com/smartcred/smartcred/internal/backoff"
)

// restarts decides when a program that failed is started again: at once after
// its first failure, then after 1 second, doubling to 60, until it answers.
type restarts struct {
	failures int
	counted  time.Time // the last of them
	until    time.Time
	last     error
}

// failed counts the failure of a process that was started then. Of one-shot
// processes that ran side by side only the first that failed counts.
func (r *restarts) failed(started, now time.Time, err error) {
	r.last = err
	if r.failures > 0 && started.Before(r.counted) {
		return
	}
	r.failures++
	r.counted = now
	if r.failures > 1 {
		r.until = now.Add(backoff.Pause(nil, r.failures-1))
	}
}

func (r *restarts) succeeded() { *r = restarts{} }

// wait returns how long the program is left alone yet.
func (r *restarts) wait(now time.Time) time.Duration { return max(0, r.until.Sub(now)) }
