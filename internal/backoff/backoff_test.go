package backoff

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
)

func TestPause(t *testing.T) {
	ask := func(d time.Duration) error {
		return fmt.Errorf("look up: %w", &smartcred.UnavailableError{RetryAfter: d, Err: errors.New("busy")})
	}
	for name, tt := range map[string]struct {
		err      error
		failures int
		want     time.Duration
	}{
		"none yet":            {nil, 0, time.Second},
		"first":               {errors.New("x"), 1, time.Second},
		"second":              {errors.New("x"), 2, 2 * time.Second},
		"sixth":               {errors.New("x"), 6, 32 * time.Second},
		"seventh":             {errors.New("x"), 7, time.Minute},
		"many":                {errors.New("x"), math.MaxInt, time.Minute},
		"asked for":           {ask(90 * time.Second), 3, 90 * time.Second},
		"asked for next to 0": {ask(1), 3, time.Second},
		"asked for a day":     {ask(24 * time.Hour), 3, 5 * time.Minute},
		"does not say":        {ask(0), 3, 4 * time.Second},
		"less than nothing":   {ask(-time.Hour), 3, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Pause(tt.err, tt.failures); got != tt.want {
				t.Errorf("Pause = %s, want %s", got, tt.want)
			}
		})
	}
}
