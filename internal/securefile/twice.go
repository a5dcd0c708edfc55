package securefile

import (
	"context"
	"time"
)

const secondLook = time.Second

// Twice looks at a file, and once more a second later if the first error says
// that it may be in the middle of a replacement: gone, empty, half written. The
// second answer counts. If ctx ends in between, its error is returned.
func Twice[T any](ctx context.Context, look func(final bool) (T, error), again func(error) bool) (T, error) {
	value, err := look(false)
	if err == nil || !again(err) {
		return value, err
	}
	timer := time.NewTimer(secondLook)
	defer timer.Stop()
	select {
	case <-timer.C:
		return look(true)
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}
