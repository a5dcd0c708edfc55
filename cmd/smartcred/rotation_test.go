package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// refusals counts the token requests that the server answered invalid_client.
func (w *world) refusals() int {
	n := 0
	for _, r := range w.srv.RequestsTo(smartauthtest.EndpointToken) {
		if r.Error == "invalid_client" {
			n++
		}
	}
	return n
}

// secrets makes a client with one secret at the server, and files for it.
func (w *world) secrets(atServer, current, previous string) {
	w.t.Helper()
	w.srv.AddClient(smartauthtest.Client{ID: "app", Secrets: []string{atServer}})
	w.write("secret", current)
	if previous != "" {
		w.write("secret.previous", previous)
	}
}

// A command line that cron runs learns from the run before, if there is a file
// to keep it in.
func TestHundredRuns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags []string
		runs  int
		most  int
	}{
		"with a state file": {[]string{"--state-file", "state.json"}, 100, 2},
		"without":           {nil, 20, 20}, // one each: enough to compare with
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.secrets("old", "new, and not registered", "old")
			began := time.Now()
			for range test.runs {
				w.run(w.args("token", append([]string{"--secret", "file:secret"}, test.flags...)...)...).ok()
			}
			n := w.refusals()
			t.Logf("%d runs in %s: %d of %d token requests were refused", test.runs, time.Since(began).Round(time.Second), n, w.srv.TokenRequests())
			// A machine so slow that refusals of 24 s and more end meanwhile sends
			// one for each that ends: 24 s, 48 s, 96 s.
			if more := int(time.Since(began) / (24 * time.Second)); n < 1 || n > test.most+more {
				t.Errorf("%d refused requests, want 1 to %d", n, test.most)
			}
		})
	}
}

func TestWrongCredentialsInManyRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("right", "wrong", "wrong too")
	args := w.args("token", "--secret", "file:secret", "--state-file", "state.json")
	first := w.run(args...)
	first.fails(exitRefused, "current (version fp-", "previous (version fp-", "invalid_client")
	if n := w.refusals(); n != 2 {
		t.Errorf("%d refused requests of the first run, want one for each secret", n)
	}
	for range 20 {
		w.run(args...).fails(exitRefused, "refused every credential before", "rotation reset")
	}
	if n := w.refusals(); n != 2 {
		t.Errorf("%d refused requests, want none in the back-off", n)
	}

	// Another value at the source ends the back-off at once.
	w.write("secret", "right")
	w.run(args...).ok()

	w.write("secret", "wrong again")
	if err := os.Remove(filepath.Join(w.dir, "secret.previous")); err != nil {
		t.Fatal(err)
	}
	w.run(args...).fails(exitRefused)
	w.run(args...).fails(exitRefused)
	w.srv.SetSecrets("app", "wrong again")
	w.run(args...).fails(exitRefused, "refused every credential before")
	w.run("rotation", "reset", "--base-url", w.srv.URL+"/", "--allow-insecure-loopback", "--client-id", "app", "--state-file", "state.json").ok()
	w.run(args...).ok()
}

// However many begin at once: three requests each at most, and once they are
// through the state file holds the others back.
func TestFiftyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("right", "wrong", "wrong too")
	args := w.args("token", "--secret", "file:secret", "--state-file", "state.json")
	// A slow server is the worst case: all are sent before one is answered.
	w.srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Delay: 300 * time.Millisecond})
	const processes = 50
	results := make([]*result, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() { results[i] = w.run(args...) })
	}
	wg.Wait()
	for _, r := range results {
		r.fails(exitRefused)
	}
	n := w.refusals()
	t.Logf("%d processes at once: %d refused requests", processes, n)
	if n < 1 || n > 3*processes {
		t.Errorf("%d refused requests, want at most 3 for each process", n)
	}
	w.run(args...).fails(exitRefused)
	if again := w.refusals(); again != n {
		t.Errorf("%d more refused requests after the others were through", again-n)
	}
}

func TestFallbackIsSaid(t *testing.T) {
	w := newWorld(t, nil)
	w.secrets("old", "new", "old")
	r := w.run(w.args("token", "--secret", "file:secret")...)
	if r.ok(); strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "warning: credential fallback, version fp-") {
		t.Errorf("standard error: %q", r.stderr)
	}
	r = w.run(w.args("token", "--secret", "file:secret", "--verbose")...)
	r.ok()
	for _, text := range []string{
		"event: credential fallback", "event: credential selected", "answer: HTTP 401 invalid_client", "answer: a token",
		"is in force", "was refused once, comes last until ", "11 more refused requests in this hour",
	} {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("--verbose does not say %q:\n%s", text, r.stderr)
		}
	}
	if strings.Contains(r.stderr, "warning:") {
		t.Errorf("--verbose says it twice:\n%s", r.stderr)
	}
}

// The keys of the configuration that say what a refusal is and what may be used.
func TestRotationOptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("old", "new", "old")
	run := func(more ...string) *result {
		return w.run(w.args("token", append([]string{"--secret", "file:secret", "--state-file", "state.json"}, more...)...)...)
	}
	reset := func() {
		w.srv.ClearFaults()
		w.run("rotation", "reset", "--base-url", w.srv.URL, "--allow-insecure-loopback", "--client-id", "app", "--state-file", "state.json").ok()
	}
	run("--previous", "never").fails(exitRefused, "current (version")
	reset()
	run().ok()
	version := w.status("--state-file", "state.json").held(t, "previous").Version
	reset()
	run("--revoked", version).fails(exitRefused, "invalid_client")
	reset()
	run("--overlap", "1h").ok() // no dates are known of files: previous counts as long as it is there

	for name, fault := range map[string]smartauthtest.Fault{
		"invalid_grant": {Status: 400, Error: "invalid_grant", Times: 1},
		"bare_401":      {Status: 401, Body: "no", Times: 1},
		"server_error":  {Status: 500, Error: "invalid_client", Times: 1},
	} {
		reset()
		w.srv.Fail(smartauthtest.EndpointToken, fault)
		if r := run(); r.status == exitDone {
			t.Errorf("%s counts as a refusal without also_refusal", name)
		}
		reset()
		w.srv.Fail(smartauthtest.EndpointToken, fault)
		run("--also-refusal", name).ok()
	}
}

// Refused, with the previous secret out of reach: the refusal counts.
func TestRefusedAndPreviousOutOfReach(t *testing.T) {
	w := newWorld(t, nil)
	w.secrets("right", "wrong", "wrong too")
	if err := os.Chmod(filepath.Join(w.dir, "secret.previous"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.run(w.args("token", "--secret", "file:secret")...).fails(exitRefused, "invalid_client", "others could not be looked up", "others can read it")
}

func TestStateFileThatCannotBeUsed(t *testing.T) {
	w := newWorld(t, nil)
	w.secrets("right", "right", "")
	w.write("garbage", "{}")
	w.run(w.args("token", "--secret", "file:secret", "--state-file", "garbage")...).fails(exitUsage, "state_file: ", "is no state file")
	w.run(w.args("token", "--secret", "file:secret", "--state-file", "absent/state")...).fails(exitUsage, "state_file: can't be used", "no such file")
	if err := os.Chmod(w.write("open", ""), 0o644); err != nil {
		t.Fatal(err)
	}
	w.run(w.args("token", "--secret", "file:secret", "--state-file", "open")...).fails(exitUsage, "state_file: can't be used", "others can read it")
	w.run(w.args("token", "--secret", "file:secret", "--state-file", "state")...).ok()
	if m := mode(t, filepath.Join(w.dir, "state")); m != 0o600 {
		t.Errorf("the state file has mode %v", m)
	}
	if state := read(t, filepath.Join(w.dir, "state")); !json.Valid([]byte(state)) || strings.Contains(state, "right") {
		t.Errorf("the state file: %s", state)
	}
}

// status runs rotation status, for the secret in files unless more says otherwise.
func (w *world) status(more ...string) *standing {
	w.t.Helper()
	args := append([]string{"rotation", "status", "--json"}, w.args("token")[1:]...)
	if !slices.Contains(more, "--signer") {
		args = append(args, "--secret", "file:secret")
	}
	r := w.run(append(args, more...)...)
	s := decodeJSON[*standing](w.t, r.stdout)
	if want := map[bool]int{false: exitDone, true: exitFound}[s.ActionNeeded]; r.status != want && s.Degraded == "" {
		w.t.Errorf("status %d, want %d: %s%s", r.status, want, r.stdout, r.stderr)
	}
	return s
}

func (s *standing) held(t *testing.T, stage string) *held {
	t.Helper()
	h := s.stage(stage)
	if h == nil {
		t.Fatalf("no %s credential in %+v", stage, s)
	}
	return h
}
