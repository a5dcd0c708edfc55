// Package backoff says how long a backend that could not be asked is left alone.
package backoff

import (
	"errors"
	"time"

	"github.com/smartcred/smartcred"
)

const (
	first = time.Second     // after the first failure, and the least that a backend may ask for
	most  = time.Minute     // where the doubling ends
	asked = 5 * time.Minute // the longest RetryAfter that is obeyed
)

// Pause returns how long to wait after failures in a row, the last of which was
// err: the RetryAfter of a [smartcred.UnavailableError], 1 second to 5 minutes,
// else 1 second after the first failure, doubling to 60.
func Pause(err error, failures int) time.Duration {
	var unavailable *smartcred.UnavailableError
	if errors.As(err, &unavailable) && unavailable.RetryAfter > 0 {
		return min(max(unavailable.RetryAfter, first), asked)
	}
	return min(first<<min(max(failures-1, 0), 6), most)
}
