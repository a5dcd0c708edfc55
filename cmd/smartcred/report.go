package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
)

const (
	maxLines    = 20   // a failure's messages, warnings on the way included
	maxWarnings = 5    // so that the failure itself has room
	maxLine     = 1000 // bytes
)

// messages writes lines to standard error. It is safe for concurrent use.
type messages struct {
	mu      sync.Mutex
	w       io.Writer
	left    int               // lines for warnings and a failure; what --verbose asks for is apart
	verbose bool              // tell of every event, as part of the trace
	held    []smartcred.Event // of interest only if what came after them went well
}

// line writes one line, whatever the arguments hold.
func (m *messages) line(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.write(fmt.Sprintf(format, args...))
}

func (m *messages) write(text string) {
	text = printable(text)
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "…"
	}
	_, _ = fmt.Fprintln(m.w, text) // there is nowhere to say that it failed
}

// Write implements [io.Writer] for loggers: each write is a line.
func (m *messages) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		m.line("%s", strings.TrimSuffix(line, "\n"))
	}
	return len(p), nil
}

// Observe implements [smartcred.Observer]: the first few warnings, or with
// --verbose everything. That everything was refused is what the failure says.
func (m *messages) Observe(_ context.Context, e smartcred.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.verbose:
		if e.Kind == smartcred.EventAllRefused {
			e.Err = nil
		}
		m.write("event: " + eventText(e))
	case e.Kind == smartcred.EventAllRefused, e.Kind.Level() <= slog.LevelInfo:
	case e.Kind == smartcred.EventCredentialFallback:
		m.held = append(m.held, e)
	default:
		m.warn(e)
	}
}

func (m *messages) warn(e smartcred.Event) {
	if m.left > maxLines-maxWarnings {
		m.write("warning: " + eventText(e))
		m.left--
	}
}

// settle tells of credentials that were refused on the way, unless that is what
// the command failed with.
func (m *messages) settle(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all *provider.RefusedError
	if !errors.As(err, &all) {
		for _, e := range m.held {
			m.warn(e)
		}
	}
	m.held = nil
}

func eventText(e smartcred.Event) string {
	var b strings.Builder
	b.WriteString(strings.ReplaceAll(string(e.Kind), "_", " "))
	for _, field := range []struct{ name, value string }{
		{"backend", e.Backend}, {"kid", e.KeyID}, {"version", e.Version},
	} {
		if field.value != "" {
			fmt.Fprintf(&b, ", %s %s", field.name, field.value)
		}
	}
	if e.Skew != 0 {
		fmt.Fprintf(&b, ": the server's clock minus ours is %s", e.Skew)
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + plainText(e.Err))
	}
	return b.String()
}

// failure says what went wrong and what to do next, in at most maxLines lines.
func (m *messages) failure(command string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := nextStep(command, err)
	problems := configProblems(err)
	if len(problems) < 2 || exitStatus(err) != exitUsage {
		m.write(command + ": " + plainText(err))
		m.write("next: " + next)
		return
	}
	m.write(fmt.Sprintf("%s: %d things are wrong with the configuration:", command, len(problems)))
	room := m.left - 2 // beside the first line, and the last one
	for i, problem := range problems {
		if i == room-1 && len(problems) > room {
			m.write(fmt.Sprintf("  … and %d more", len(problems)-i))
			break
		}
		m.write("  " + plainText(problem))
	}
	m.write("next: " + next)
}

// configProblems returns the outermost ConfigErrors of err's tree: each names an
// option and says what is wrong with it.
func configProblems(err error) []*smartcred.ConfigError {
	var problems []*smartcred.ConfigError
	walk(err, func(err error) bool {
		problem, ok := err.(*smartcred.ConfigError)
		if ok {
			problems = append(problems, problem)
		}
		return !ok
	})
	return problems
}

// printable keeps what others wrote from moving a terminal's cursor, breaking a
// line or reordering it: such characters are written as Go escapes.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
