package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func (w *world) check(more ...string) *result {
	w.t.Helper()
	return w.run(append(append([]string{"check"}, w.args("token")[1:]...), more...)...)
}

// says checks the report's lines and the status.
func (r *result) says(status int, lines ...string) {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("smartcred %q: status %d, want %d", r.args, r.status, status)
	}
	for _, line := range lines {
		if !slices.ContainsFunc(strings.Split(r.stdout, "\n"), func(l string) bool {
			return strings.HasPrefix(strings.Join(strings.Fields(l), " "), line)
		}) {
			r.t.Errorf("smartcred %q: no line %q", r.args, line)
		}
	}
	if r.t.Failed() {
		r.t.Logf("standard output:\n%sstandard error:\n%s", r.stdout, r.stderr)
	}
}

func TestCheckASecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.secrets("new", "new", "old")
	r := w.check("--secret", "file:secret", stateFlag)
	r.says(exitDone, "ok state state.json", "ok secret current: version fp-", "ok secret previous: version fp-",
		"ok server SMART configuration read, token endpoint "+w.srv.TokenURL, "ok clock the server's clock minus ours is ", "ok permissions")
	if r.stderr != "" || w.srv.TokenRequests() != 0 {
		t.Errorf("standard error %q, %d token requests", r.stderr, w.srv.TokenRequests())
	}
	report := decodeJSON[health](t, w.check("--secret", "file:secret", "--json").ok())
	if report.Status != verdictOK || len(report.Checks) != 5 {
		t.Errorf("%+v", report)
	}
	w.check("--secret", "file:secret", "--previous", "never").says(exitDone, "ok secret previous: never used")
	version := w.status(stateFlag).held(t, "current").Version
	w.check("--secret", "file:secret", stateFlag, "--revoked", version).says(exitFound, "fail secret current: version "+version+" is revoked")

	if err := os.Remove(filepath.Join(w.dir, "secret.previous")); err != nil {
		t.Fatal(err)
	}
	w.check("--secret", "file:secret").says(exitDone, "ok secret previous: there is none")
	if err := os.Chmod(filepath.Join(w.dir, "secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.check("--secret", "file:secret").says(exitUsage, "fail secret")
	w.check("--secret", "file:secret", "--insecure-permissions").says(exitFound, "warn permissions file:secret: mode 0644")
	r = w.check("--secret", "file:absent")
	r.says(exitBackend, "fail secret look up current client secret", "ok server")
	if !strings.Contains(r.stderr, "\nnext: ") {
		t.Errorf("standard error: %q", r.stderr)
	}
	w.check().fails(exitUsage, "neither a signer nor a secret")
	w.check("--secret", "file:secret", "--expires-within", "soon").fails(exitUsage, "--expires-within: is no duration")
}

func TestCheckKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	w.run("keygen", "--alg", "RS384", "--bits", "2048", "--out", "key.pem.next").ok()
	w.write("key.pem.previous", "half a key")
	r := w.check("--signer", "file:key.pem", "--expires-within", "30d")
	r.says(exitFound, "ok signer current: kid ", "ok signer next: kid ", "ok custody current: kid ", "warn notice key left out, backend file:key.pem.previous")
	if !strings.Contains(r.stdout, "exportable: private key file key.pem, read into this process") {
		t.Errorf("custody is not said:\n%s", r.stdout)
	}
	w.check("--signer", "file:key.pem", "--require-non-exportable").says(exitUsage, "fail signer")
	w.check("--signer", "file:absent.pem").says(exitBackend, "fail signer list keys")
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	ahead := newWorld(t, &smartauthtest.Options{Clock: func() time.Time { return time.Now().Add(150 * time.Second) }})
	ahead.secrets("new", "new", "")
	ahead.check("--secret", "file:secret").says(exitFound, "warn clock the server's clock minus ours is 2m")

	w := newWorld(t, nil)
	w.secrets("new", "new", "")
	w.check("--secret", "file:secret", "--allowed-auth-hosts", "auth.example.com").says(exitServer, "fail server")
	w.srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Status: 404, Body: "<html>", Header: http.Header{"Date": {"never"}}})
	w.check("--secret", "file:secret").says(exitServer, "fail server", "ok clock not compared", "ok secret current")
	w.check("--secret", "file:secret", "--token-endpoint", w.srv.TokenURL).says(exitDone, "ok server token endpoint "+w.srv.TokenURL+" answers")
	if n := w.srv.Count(smartauthtest.EndpointToken); n != 1 {
		t.Errorf("%d requests to the stated token endpoint, want one HEAD", n)
	}
	w.check("--secret", "file:secret", "--token-endpoint", "http://127.0.0.1:1/token").says(exitServer, "fail server ask token endpoint")
	w.check("--auth-method", "none", "--token-endpoint", w.srv.TokenURL).says(exitDone, "ok server")
}

// dated is a source whose secrets have dates, as files' do not.
type dated struct{ expires time.Time }

func (d dated) Lookup(_ context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	if stage == secretsource.Previous {
		return secretsource.Secret{}, smartcred.ErrDenied
	}
	s := secretsource.New([]byte("value"), "7")
	s.Expires = d.expires
	return s, nil
}

func TestCheckExpiry(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		expires time.Time
		want    string
	}{
		{now.Add(-time.Hour), verdictFail},
		{now.Add(29 * 24 * time.Hour), verdictWarn},
		{now.Add(31 * 24 * time.Hour), verdictOK},
		{time.Time{}, ""},
	} {
		cache := secretsource.NewCache(dated{test.expires}, &secretsource.CacheOptions{Observer: smartcred.Discard})
		h := &health{}
		h.checkSecrets(t.Context(), &session{settings: defaults(), secrets: cache}, now.Add(30*24*time.Hour))
		got := ""
		for _, f := range h.Checks {
			if f.Check == "expiry" {
				got = f.Status
			}
		}
		if got != test.want {
			t.Errorf("%s from now: %q, want %q", time.Until(test.expires), got, test.want)
		}
		if last := h.Checks[len(h.Checks)-1]; last.Status != verdictWarn || !strings.Contains(last.Detail, "may not be read") {
			t.Errorf("denied: %+v", last)
		}
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
	}
}
