//go:build unix

package program

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/smartcred/smartcred/plugins/program/internal/deadline"
)

func newPipe(t *testing.T) (reader, writer *pipe) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(r, w) })
	return &pipe{File: r, setDeadline: r.SetReadDeadline}, &pipe{File: w, setDeadline: w.SetWriteDeadline}
}

// A line that the pipe has no room for is written whole, whatever interrupts the
// writing, as long as its context lasts.
func TestWriteAll(t *testing.T) {
	r, w := newPipe(t)
	line := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	w.arm(time.Now().Add(time.Millisecond)) // a former caller had less time
	ctx, cancel := deadline.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	written := make(chan error, 1)
	go func() {
		n, err := w.writeAll(ctx, line)
		if n != len(line) {
			t.Errorf("%d bytes of %d are said to be written", n, len(line))
		}
		written <- err
	}()
	var got bytes.Buffer
	for got.Len() < len(line) {
		w.set(aLongTimeAgo) // a former caller's end, that comes late
		if _, err := io.CopyN(&got, r, 1<<12); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-written; err != nil || !bytes.Equal(got.Bytes(), line) {
		t.Errorf("error %v, %d bytes of %d", err, got.Len(), len(line))
	}
}

func TestWriteAllEndsWithItsContext(t *testing.T) {
	line := make([]byte, 1<<20)
	for name, makeContext := range map[string]func() (context.Context, context.CancelFunc){
		"deadline": func() (context.Context, context.CancelFunc) {
			return deadline.WithTimeout(t.Context(), time.Millisecond)
		},
		"another's deadline": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), time.Millisecond)
		},
		"cancelled": func() (context.Context, context.CancelFunc) {
			parent, cancel := context.WithCancel(t.Context())
			ctx, _ := deadline.WithTimeout(parent, time.Minute)
			time.AfterFunc(time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, w := newPipe(t)
			ctx, cancel := makeContext()
			defer cancel()
			if n, err := w.writeAll(ctx, line); err == nil || !errors.Is(err, ctx.Err()) || n == len(line) {
				t.Errorf("%d bytes, error %v, the context's is %v", n, err, ctx.Err())
			}
		})
	}
}

func TestArm(t *testing.T) {
	r, _ := newPipe(t)
	var set []time.Time
	r.setDeadline = func(at time.Time) error { set = append(set, at); return nil }
	now := time.Now()
	soon, late := now.Add(time.Hour), now.Add(2*time.Hour)
	for _, at := range []time.Time{soon, late, late} { // once armed for less, it stays so
		r.arm(at)
	}
	if len(set) != 1 || !set[0].Equal(soon) {
		t.Errorf("deadlines %v, want one", set)
	}
	r.set(aLongTimeAgo)
	r.arm(late)
	r.arm(soon)
	if last := set[len(set)-1]; len(set) != 4 || !last.Equal(soon) {
		t.Errorf("deadlines %v", set)
	}
	r.endBy(now)
	for _, at := range []time.Time{late, now} {
		if r.arm(at) {
			t.Errorf("after its end it may be waited for until %s past that", at.Sub(now))
		}
	}
}
