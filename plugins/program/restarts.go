package program

import (
	"time"

	"github.com/smartcred/smartcred/internal/backoff"
)

// restarts decides when a program that failed is started again: at once after
// its first failure, then after 1 second, doubling to 60, until it answers.
type restarts struct {
	failures int
	until    time.Time
	last     error
}

func (r *restarts) failed(now time.Time, err error) {
	r.failures++
	r.last = err
	if r.failures > 1 {
		r.until = now.Add(backoff.Pause(nil, r.failures-1))
	}
}

func (r *restarts) succeeded() { *r = restarts{} }

// wait returns how long the program is left alone yet.
func (r *restarts) wait(now time.Time) time.Duration { return max(0, r.until.Sub(now)) }
