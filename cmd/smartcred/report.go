package main

import (
	"context"
	"crypto/x509"
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
	"github.com/smartcred/smartcred/smartauth"
)

const (
	maxLines    = 20   // a failure's messages, warnings on the way included
	maxWarnings = 5    // so that the failure itself has room
	maxLine     = 1000 // bytes
)

// messages writes lines to standard error. It is safe for concurrent use.
type messages struct {
	mu   sync.Mutex
	w    io.Writer
	left int // lines for warnings and a failure; what --verbose asks for is apart
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

// Observe implements [smartcred.Observer]: warnings, the first few of them.
func (m *messages) Observe(_ context.Context, e smartcred.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Kind.Level() > slog.LevelInfo && m.left > maxLines-maxWarnings {
		m.write("warning: " + eventText(e))
		m.left--
	}
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
		b.WriteString(": " + e.Err.Error())
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
		m.write(command + ": " + strings.ReplaceAll(err.Error(), "\n", "; "))
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
		m.write("  " + strings.ReplaceAll(problem.Error(), "\n", "; "))
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

// nextStep says in one line what to do about err.
func nextStep(command string, err error) string {
	var unknownAuthority x509.UnknownAuthorityError
	var answer *provider.TokenError
	is := func(target error) bool { return errors.Is(err, target) }
	switch exitStatus(err) {
	case exitUsage:
		return command + " --help lists the options"
	case exitRefused:
		switch {
		case is(provider.ErrInvalidClient):
			return "compare client_id and the registered secret or key with what is sent: smartcred token --verbose, smartcred jwks"
		case is(provider.ErrInvalidScope):
			return "ask for scopes that this client may have; smartcred discover shows scopes_supported"
		case is(provider.ErrUnauthorizedClient), is(provider.ErrUnsupportedGrantType):
			return "have client_credentials allowed for this client at the server"
		default:
			return "smartcred token --verbose shows what was sent and answered"
		}
	case exitBackend:
		switch {
		case is(smartcred.ErrNotFound):
			return "check the reference in secret or signer: what it names is not there"
		case is(smartcred.ErrDenied):
			return "give this user the right to read or use what secret or signer names"
		default:
			return "check that the backend of secret or signer can be reached, then try again"
		}
	}
	switch {
	case errors.As(err, &unknownAuthority):
		return "if the server's certificate is from an authority of your own, name its PEM file in ca_file"
	case is(smartauth.ErrEndpointNotAllowed):
		return "compare smartcred discover with what the server's operator says; allowed_auth_hosts allows other hosts"
	case errors.As(err, &answer):
		return "the server is in trouble or asks for patience: try again later"
	case is(context.DeadlineExceeded):
		return "check that the server can be reached, or raise timeout"
	default:
		return "check base_url, token_endpoint and the network; smartcred discover shows what the server says of itself"
	}
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
