package securefile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTwice(t *testing.T) {
	gone, broken := errors.New("gone"), errors.New("broken")
	for name, tt := range map[string]struct {
		errs  []error // of the looks
		ends  time.Duration
		want  error
		takes time.Duration
	}{
		"there":            {errs: []error{nil}},
		"broken":           {errs: []error{broken}, want: broken},
		"gone":             {errs: []error{gone, gone}, want: gone, takes: time.Second},
		"replaced":         {errs: []error{gone, nil}, takes: time.Second},
		"the context ends": {errs: []error{gone}, ends: time.Millisecond, want: context.DeadlineExceeded, takes: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.ends > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.ends)
					defer cancel()
				}
				start, looks := time.Now(), 0
				_, err := Twice(ctx, func(final bool) (int, error) {
					if final != (looks == 1) {
						t.Errorf("look %d is final: %t", looks, final)
					}
					looks++
					return 0, tt.errs[looks-1]
				}, func(err error) bool { return err == gone })
				if !errors.Is(err, tt.want) || looks != len(tt.errs) || time.Since(start) != tt.takes {
					t.Errorf("%d looks in %s: %v", looks, time.Since(start), err)
				}
			})
		})
	}
}
