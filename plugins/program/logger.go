package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/redact"
)

const (
	maxMessage   = 512         // bytes of a line that are told
	messageBurst = 50          // lines told in a row
	messagePause = time.Second // then one line in that time
)

// A logger makes events of what a program writes to its standard error: line by
// line, so many and so long as a log can stand, without the values of the
// program's environment. It is that of all processes of the program: what is
// started again, or for each request, has no more lines than what lives on.
type logger struct {
	backend  string
	observer smartcred.Observer
	redactor *redact.Redactor

	mu      sync.Mutex
	spent   int // of the burst
	since   time.Time
	dropped int
	counted time.Time // when dropped was said
}

// lines reads stderr to its end.
func (l *logger) lines(ctx context.Context, stderr io.Reader) {
	in := bufio.NewReaderSize(stderr, 4<<10)
	for {
		line, err := in.ReadSlice('\n')
		text := string(line)
		for errors.Is(err, bufio.ErrBufferFull) { // the rest of a long line
			_, err = in.ReadSlice('\n')
		}
		if len(text) > 0 {
			l.tell(ctx, text, time.Now())
		}
		if err != nil {
			break
		}
	}
	if n := l.leftOut(time.Now()); n > 0 {
		l.notify(ctx, fmt.Sprintf("and %d lines that are left out", n))
	}
}

func (l *logger) tell(ctx context.Context, text string, now time.Time) {
	if !l.admit(now) {
		return
	}
	if n := l.leftOut(now); n > 0 {
		l.notify(ctx, fmt.Sprintf("… %d lines are left out", n))
	}
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	l.notify(ctx, redact.Text(l.redactor.Clean(text), maxMessage))
}

// admit reports whether a line may be told.
func (l *logger) admit(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refilled := int(now.Sub(l.since) / messagePause); refilled > 0 {
		l.spent = max(0, l.spent-refilled)
		l.since = now
	}
	if l.spent >= messageBurst {
		l.dropped++
		return false
	}
	l.spent++
	return true
}

// leftOut returns how many lines were not told since that was said last, which it
// is as often as a line is told.
func (l *logger) leftOut(now time.Time) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped == 0 || now.Sub(l.counted) < messagePause {
		return 0
	}
	l.counted = now
	n, l.dropped = l.dropped, 0
	return n
}

func (l *logger) notify(ctx context.Context, detail string) {
	smartcred.Notify(ctx, l.observer, smartcred.Event{Kind: smartcred.EventPluginMessage, Backend: l.backend, Detail: detail})
}
