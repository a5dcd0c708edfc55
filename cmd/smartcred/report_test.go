package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
)

func TestWarningsLeaveRoomForTheFailure(t *testing.T) {
	var out strings.Builder
	m := &messages{w: &out, left: maxLines}
	m.Observe(t.Context(), smartcred.Event{Kind: smartcred.EventKeyPublished, KeyID: "k"})
	if out.Len() > 0 {
		t.Errorf("what is no warning is printed: %q", out.String())
	}
	for i := range 50 {
		m.Observe(t.Context(), smartcred.Event{Kind: smartcred.EventStaleInUse, Detail: fmt.Sprint("number ", i)})
	}
	var problems []error
	for i := range 50 {
		problems = append(problems, &smartcred.ConfigError{Option: fmt.Sprint("option ", i), Problem: "wrong"})
	}
	m.failure("smartcred token", errors.Join(problems...))
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != maxLines {
		t.Errorf("%d lines, want %d", len(lines), maxLines)
	}
	if lines[maxWarnings-1] != "warning: stale in use: number 4" || !strings.HasPrefix(lines[maxWarnings], "smartcred token: 50 things") ||
		lines[maxLines-2] != "  … and 38 more" || !strings.HasPrefix(lines[maxLines-1], "next: ") {
		t.Errorf("lines:\n%s", out.String())
	}
}

func TestEventText(t *testing.T) {
	got := eventText(smartcred.Event{
		Kind: smartcred.EventClockSkew, Backend: "file:key.pem", KeyID: "k1", Version: "v1", Skew: -time.Minute,
		Detail: "detail", Err: errors.New("cause"),
	})
	want := "clock skew, backend file:key.pem, kid k1, version v1: the server's clock minus ours is -1m0s: detail: cause"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMessagesAreOneLineOfText(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"plain, é and 漢字", "plain, é and 漢字"},
		{"two\nlines", `two\nlines`},
		{"\x1b[2J\a\x7f", `\x1b[2J\a\x7f`},
		{"\u009b\u202e\u2028", `\u009b\u202e\u2028`},
		{"bad \xff", "bad \ufffd"},
	} {
		var out strings.Builder
		(&messages{w: &out}).line("%s", test.in)
		if got := out.String(); got != test.want+"\n" {
			t.Errorf("%q is written as %q, want %q", test.in, got, test.want)
		}
	}
	var out strings.Builder
	(&messages{w: &out}).line("%s", strings.Repeat("é", maxLine))
	if got := out.String(); len(got) > maxLine+10 || !strings.HasSuffix(got, "é…\n") {
		t.Errorf("a long line is %d bytes and ends in %q", len(got), got[len(got)-10:])
	}
}

// Loggers write to the same place, line by line.
func TestMessagesWriter(t *testing.T) {
	var out strings.Builder
	m := &messages{w: &out}
	if n, err := m.Write([]byte("one\ntwo")); n != 7 || err != nil {
		t.Errorf("Write returned %d, %v", n, err)
	}
	if out.String() != "one\ntwo\n" {
		t.Errorf("wrote %q", out.String())
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWritten(t *testing.T) {
	var stderr strings.Builder
	if status := run(t.Context(), []string{"version"}, fullDisk{}, &stderr); status != exitUsage {
		t.Errorf("status %d, want %d", status, exitUsage)
	}
	if !strings.Contains(stderr.String(), "standard output: can't be written: no space left") {
		t.Errorf("standard error: %q", stderr.String())
	}
}

// At a terminal the names of Go packages say nothing, and nobody can import.
func TestPlainText(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("provider: look up client secret: secretsource: read absent: not found"), "look up client secret: read absent: not found"},
		{errors.New("a: provider: signer: list keys: signer: list keys: down; rotation: lock state"), "a: list keys: down; lock state"},
		{&smartcred.ConfigError{Option: "signer", Problem: "is missing"}, "signer: is missing"},
		{errors.Join(&smartcred.ConfigError{Option: "signer", Problem: "is missing"}), "signer: is missing"},
		{errors.Join(errors.New("one"), errors.New("provider: two")), "one; two"},
		{errors.New("vault-kv: this program was built without it: import example.com/x/vaultkv; it has env:, plugin: (import example.com/x/program)"),
			"vault-kv: it is not in this build, which has env:, plugin: (not in this build)"},
	} {
		if got := plainText(test.err); got != test.want {
			t.Errorf("%q is written as %q, want %q", test.err, got, test.want)
		}
	}
}

// Refusals on the way are said when the command succeeded, or failed otherwise.
func TestFallbacksAreHeld(t *testing.T) {
	event := smartcred.Event{Kind: smartcred.EventCredentialFallback, Version: "v1"}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"success", nil, "warning: credential fallback, version v1\n"},
		{"another failure", errors.New("no answer"), "warning: credential fallback, version v1\n"},
		{"all refused", fmt.Errorf("token: %w", &provider.RefusedError{}), ""},
	} {
		var out strings.Builder
		m := &messages{w: &out, left: maxLines}
		m.Observe(t.Context(), event)
		m.Observe(t.Context(), smartcred.Event{Kind: smartcred.EventAllRefused})
		if m.settle(test.err); out.String() != test.want {
			t.Errorf("%s: %q, want %q", test.name, out.String(), test.want)
		}
	}
}
