package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const stateFlag = "--state-file=state.json"

func TestStatusOfASecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("old", "new", "old")
	s := w.status(stateFlag)
	if s.ActionNeeded || !strings.Contains(s.InForce, "none has worked") || s.held(t, "current").InForce || len(s.Credentials) != 2 || *s.HourlyBudget != 12 {
		t.Errorf("before: %+v", s)
	}
	if n := len(w.srv.Requests()); n != 0 {
		t.Errorf("%d requests without --probe", n)
	}
	w.run(w.args("token", "--secret", "file:secret", stateFlag)...).ok()

	// The server has not switched.
	s = w.status(stateFlag)
	current, previous := s.held(t, "current"), s.held(t, "previous")
	if !s.ActionNeeded || current.Refusals != 1 || current.RefusedUntil.IsZero() || current.InForce || !previous.InForce || previous.Worked.IsZero() {
		t.Errorf("while the server takes the old one: %+v", s)
	}
	if !strings.Contains(s.InForce, "refused the current one (once)") || !strings.Contains(s.Next[0], "refuses the current one and takes the previous secret") {
		t.Errorf("%q, %q", s.InForce, s.Next)
	}
	text := w.run(append([]string{"rotation", "status", stateFlag, "--secret", "file:secret"}, w.args("token")[1:]...)...)
	for _, says := range []string{"client app at " + w.srv.URL, "  current   version fp-", ", refused once, comes last until ", ", in force", "\nin force: the previous secret", "\nbudget: 11 more", "\nnext: the server refuses the current one"} {
		if !strings.Contains(text.stdout, says) {
			t.Errorf("the text does not say %q:\n%s", says, text.stdout)
		}
	}
	if text.status != exitFound || text.stderr != "" {
		t.Errorf("status %d, standard error %q", text.status, text.stderr)
	}

	// It has.
	w.srv.SetSecrets("app", "new")
	w.run(w.args("token", "--secret", "file:secret", stateFlag)...).ok()
	if s = w.status(stateFlag); s.ActionNeeded || !s.held(t, "current").InForce || !strings.Contains(s.Next[0], "previous can go") {
		t.Errorf("when it has switched: %+v", s)
	}
	w.run("rotation", "revoke", s.held(t, "previous").Version, "--secret", "file:secret", stateFlag).ok()
	if s = w.status(stateFlag); len(s.Credentials) != 1 || len(s.Gone) != 1 || s.Gone[0].InForce {
		t.Errorf("when previous is revoked: %+v", s)
	}

	// It takes nothing any more.
	w.srv.SetSecrets("app", "another")
	for range 6 { // the first back-off is of a second, which a slow machine may need to look; each is longer
		w.run(w.args("token", "--secret", "file:secret", stateFlag)...).fails(exitRefused)
		if s = w.status(stateFlag); !s.BackoffUntil.IsZero() {
			break
		}
	}
	if !s.ActionNeeded || s.BackoffUntil.IsZero() || !strings.Contains(s.Next[0], "nothing is sent until") || !strings.Contains(s.Next[1], "rotation reset") {
		t.Errorf("when all is refused: %+v", s)
	}

	// The source is gone: both are said.
	if err := os.Remove(filepath.Join(w.dir, "secret")); err != nil {
		t.Fatal(err)
	}
	r := w.run(append([]string{"rotation", "status", stateFlag, "--secret", "file:secret"}, w.args("token")[1:]...)...)
	if r.status != exitBackend || !strings.Contains(r.stdout, "\ndegraded: ") || !strings.Contains(r.stderr, "secret: not found") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("old", "new", "old")
	probe := func(more ...string) *standing {
		t.Helper()
		w.srv.ResetRequests()
		return w.status(append(more, "--probe")...)
	}
	s := probe()
	if !s.ActionNeeded || s.held(t, "current").Probe.Result != probeRefused || s.held(t, "previous").Probe.Result != probeAccepted {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(s.held(t, "current").Probe.Detail, "invalid_client") || !strings.Contains(s.InForce, "no state_file") {
		t.Errorf("%+v", s)
	}
	if n := w.srv.TokenRequests(); n != 2 {
		t.Errorf("%d token requests for 2 credentials", n)
	}

	// Neither a back-off nor a refusal keeps it from asking, and it leaves none.
	w.srv.SetSecrets("app", "none")
	w.run(w.args("token", "--secret", "file:secret", stateFlag)...).fails(exitRefused)
	state := read(t, filepath.Join(w.dir, "state.json"))
	if s = probe(stateFlag); !s.ActionNeeded || w.srv.TokenRequests() != 2 || !strings.Contains(s.Next[0], "refuses every one") {
		t.Errorf("%d requests, %+v", w.srv.TokenRequests(), s)
	}
	w.srv.SetSecrets("app", "new")
	if s = probe(stateFlag); !s.ActionNeeded || !strings.Contains(s.Next[0], "takes the current one again: smartcred rotation reset") {
		t.Errorf("%+v", s)
	}
	if read(t, filepath.Join(w.dir, "state.json")) != state {
		t.Error("the probe changed the state")
	}

	r := w.run(append([]string{"rotation", "status", "--probe", "--secret", "file:secret"}, w.args("token")[1:]...)...)
	if r.ok(); !strings.HasPrefix(r.stderr, "probe: asking "+w.srv.URL+" with 2 credentials, one token request each") {
		t.Errorf("standard error: %q", r.stderr)
	}
	w.run("rotation", "status", "--probe", "--secret", "file:secret", "--base-url", w.srv.URL, "--allow-insecure-loopback", "--client-id", "app").
		fails(exitUsage, "scopes: is missing, which --probe needs")

	// An answer that is none leaves what is known.
	w.srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 503, Body: "<html>"})
	r = w.run(append([]string{"rotation", "status", "--probe", "--secret", "file:secret"}, w.args("token")[1:]...)...)
	if r.status != exitServer || !strings.Contains(r.stdout, "probe: failed: ") {
		t.Errorf("status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
}

func TestProbeKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.key("ES384", "key.pem.next", "app") // registered: the next key only
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	w.run("keygen", "--alg", "ES384", "--out", "key.pem.previous").ok()
	w.srv.ResetRequests()
	s := w.status("--signer", "file:key.pem", "--probe", stateFlag)
	if s.held(t, "next").Probe.Result != probeAccepted || s.held(t, "current").Probe.Result != probeRefused || s.held(t, "previous").Probe.Result != probeRefused {
		t.Errorf("%+v", s)
	}
	if n := w.srv.TokenRequests(); n != 3 {
		t.Errorf("%d token requests for 3 keys", n)
	}
	if !s.ActionNeeded || !strings.Contains(s.Next[0], "takes the next key") || !strings.HasSuffix(s.Next[0], "activate --force") {
		t.Errorf("%q", s.Next)
	}

	// In an emergency the server's refusals make the staged key serve.
	w.run(w.args("token", "--signer", "file:key.pem", stateFlag)...).ok()
	s = w.status("--signer", "file:key.pem", stateFlag)
	if !s.ActionNeeded || !strings.Contains(s.InForce, "although it is staged") || !strings.Contains(strings.Join(s.Next, " "), "rotation activate --force") {
		t.Errorf("%+v", s)
	}
}

func TestRevokeASecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("new", "new", "old")
	revoke := func(name string, more ...string) *result {
		return w.run(append([]string{"rotation", "revoke", name, "--secret", "file:secret"}, more...)...)
	}
	revoke("fp-123456789abc").fails(exitUsage, "without state_file versions")
	version := w.status(stateFlag).held(t, "current").Version
	revoke(version, stateFlag).fails(exitUsage, "is the current secret", "revoked: ["+version+"]")
	revoke("previous").ok()
	if exists(t, filepath.Join(w.dir, "secret.previous")) {
		t.Error("secret.previous is there")
	}
	for name, says := range map[string]string{"previous": "there is no secret.previous", "next": "secrets have no next one"} {
		if r := revoke(name); r.ok() != "" || r.stderr != "nothing to do: "+says+"\n" {
			t.Errorf("revoke %s: %q", name, r.stderr)
		}
	}
	revoke("unknown", stateFlag).fails(exitUsage, "neither the current nor the previous secret has that version")
	w.run(w.args("token", "--secret", "file:secret", stateFlag, "--revoked", version)...).fails(exitBackend, "revoked by the configuration")
	w.write("whole.json", `{"client_secret": "new"}`)
	w.run("rotation", "revoke", "current", "--force", "--secret", "file:whole.json#client_secret").fails(exitUsage, "holds more than this secret")
	revoke("current", "--force").ok()
	w.run(w.args("token", "--secret", "file:secret")...).fails(exitBackend, "not found")
}

func TestStatusWithoutCredentials(t *testing.T) {
	w := newWorld(t, nil)
	w.run(append([]string{"rotation", "status", "--auth-method", "none"}, w.args("token")[1:]...)...).fails(exitUsage, "nothing to rotate")
	w.run("rotation", "reset", "--base-url", w.srv.URL, "--allow-insecure-loopback", "--client-id", "app").fails(exitUsage, "state_file: is missing")
	w.run("rotation").fails(exitUsage, "activate, new-key, reset, revoke, status")
	w.run("rotation", "hunter2").fails(exitUsage, "unknown command")
}

func TestAdvice(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	spent, left := 0, 12
	for _, test := range []struct {
		name string
		s    standing
		act  bool
		says string
	}{
		{"a key in its backend, scheduled", standing{Credentials: []*held{{Stage: "next", NotBefore: now.Add(time.Hour)}, {Stage: "current"}}}, false, "signs from 2026-01-02T04:04:05Z on, by itself"},
		{"a key in its backend, to be named", standing{Credentials: []*held{{Stage: "next"}, {Stage: "current"}}}, false, "once it is named"},
		{"expired", standing{Credentials: []*held{{Stage: "current", Expires: now}}}, true, "ended at 2026-01-02"},
		{"not expired", standing{Credentials: []*held{{Stage: "current", Expires: now.Add(1)}}}, false, "to rotate, write the new one"},
		{"budget spent", standing{Credentials: []*held{{Stage: "current"}}, HourlyBudget: &left, DailyBudget: &spent}, true, "one request an hour is left"},
		{"degraded", standing{Degraded: "vault: down"}, true, "mend the backend: vault: down"},
		{"nothing known", standing{Credentials: []*held{{Stage: "current"}}}, false, "set state_file"},
		{"published long enough", standing{file: true, publishFor: time.Hour, publishSince: now.Add(-time.Hour), Credentials: []*held{{Stage: "next"}, {Stage: "current"}}}, true, "rotation activate"},
		{"next is refused", standing{file: true, publishFor: time.Hour, publishSince: now.Add(-time.Hour), Credentials: []*held{{Stage: "next", Probe: &probed{Result: probeRefused}}, {Stage: "current"}}}, false, "the server refuses the next key: register it"},
		{"next is refused and scheduled", standing{Credentials: []*held{{Stage: "next", NotBefore: now.Add(time.Hour), Probe: &probed{Result: probeRefused}}, {Stage: "current"}}}, false, "the server refuses the next key: register it"},
		{"next was refused", standing{file: true, publishFor: time.Hour, publishSince: now.Add(-time.Hour), Credentials: []*held{{Stage: "next", Refusals: 1}, {Stage: "current"}}}, false, "refused the next key before: smartcred rotation status --probe"},
		{"next was refused and is taken", standing{file: true, publishFor: time.Hour, publishSince: now.Add(-time.Hour), Credentials: []*held{{Stage: "next", Refusals: 1, Probe: &probed{Result: probeAccepted}}, {Stage: "current", Probe: &probed{Result: probeAccepted}}}}, true, "published for publish_for: smartcred rotation activate"},
		{"a step back", standing{file: true, publishFor: time.Hour, publishSince: now.Add(-time.Hour), Credentials: []*held{{Stage: "next", Worked: now}, {Stage: "current"}}}, false, "was in use at this server before: smartcred rotation activate makes it sign again"},
		{"a key in a file", standing{file: true, Method: provider.MethodPrivateKeyJWT, Credentials: []*held{{Stage: "current"}}}, false, "rotation new-key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.s.advise(now)
			if test.s.ActionNeeded != test.act || !strings.Contains(strings.Join(test.s.Next, "; "), test.says) {
				t.Errorf("action needed: %t, next %q", test.s.ActionNeeded, test.s.Next)
			}
		})
	}
}
