package secretsource

import (
	"sync/atomic"
	"testing"
	"time"
)

// The cached look-up beside its floor: one atomic load and one clock read.
func BenchmarkCachedLookup(b *testing.B) {
	c := NewCache(Static([]byte("x")), nil)
	defer c.Close()
	ctx := b.Context()
	b.Run("cache", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := c.Lookup(ctx, Current); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("floor", func(b *testing.B) {
		var kept atomic.Pointer[answer]
		kept.Store(&answer{until: time.Now().Add(time.Hour)})
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if !time.Now().Before(kept.Load().until) {
					b.Error("an hour has passed")
				}
			}
		})
	})
}

func TestCachedLookupDoesNotAllocate(t *testing.T) {
	c := NewCache(Static([]byte("x")), nil)
	defer c.Close()
	ctx := t.Context()
	if _, err := c.Lookup(ctx, Current); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _, _ = c.Lookup(ctx, Current) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
