package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
// program's environment.
type logger struct {
	backend  string
	observer smartcred.Observer
	redactor *redact.Redactor

	spent   int // of the burst
	since   time.Time
	dropped int
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
	if l.dropped > 0 {
		l.notify(ctx, fmt.Sprintf("and %d lines that are left out", l.dropped))
	}
}

func (l *logger) tell(ctx context.Context, text string, now time.Time) {
	if refilled := int(now.Sub(l.since) / messagePause); refilled > 0 {
		l.spent = max(0, l.spent-refilled)
		l.since = now
	}
	if l.spent >= messageBurst {
		l.dropped++
		return
	}
	l.spent++
	if l.dropped > 0 {
		l.notify(ctx, fmt.Sprintf("… %d lines are left out", l.dropped))
		l.dropped = 0
	}
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	l.notify(ctx, redact.Text(l.redactor.Clean(text), maxMessage))
}

func (l *logger) notify(ctx context.Context, detail string) {
	smartcred.Notify(ctx, l.observer, smartcred.Event{Kind: smartcred.EventPluginMessage, Backend: l.backend, Detail: detail})
}
