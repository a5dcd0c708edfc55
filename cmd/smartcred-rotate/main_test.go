package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// runMain makes the test binary be the program.
const runMain = "SMARTCRED_ROTATE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

const (
	firstValue = "the-first-secret-not-a-real-one-0123456789"
	hookToken  = "hook-token-not-a-real-one-0123456789"
	regToken   = "registration-token-not-a-real-one-01"
	issued     = "issued-secret-not-a-real-one-0123456789"
)

// A world is an AWS, an EHR, its registrations, and a hook's service.
type world struct {
	t   *testing.T
	aws *awsfake.Server
	ehr *smartauthtest.Server
	url string // of /hook and /register
	env []string

	fails atomic.Int64 // status of the hook, where it is to fail
	puts  atomic.Int64 // updates of the registration
}

func newWorld(t *testing.T, value string) *world {
	t.Helper()
	w := &world{t: t, aws: awsfake.New(nil), ehr: smartauthtest.NewServer(t, nil)}
	t.Cleanup(w.aws.Close)
	w.ehr.AddClient(smartauthtest.Client{ID: "my-app", Secrets: []string{firstValue}, Scopes: []string{"system/*.rs"}})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hook", w.hook)
	mux.HandleFunc("/register", w.register)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	w.url = srv.URL
	w.aws.CreateSecret("smart", strings.ReplaceAll(value, "URL", w.url))
	w.env = []string{
		"AWS_ACCESS_KEY_ID=" + awsfake.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + awsfake.SecretAccessKey,
		"AWS_REGION=" + awsfake.Region, "AWS_ENDPOINT_URL_SECRETS_MANAGER=" + w.aws.URL, "AWS_MAX_ATTEMPTS=1",
		"AWS_EC2_METADATA_DISABLED=true", "HOOK_TOKEN=" + hookToken,
	}
	return w
}

func (w *world) hook(rw http.ResponseWriter, r *http.Request) {
	var in map[string]string
	if r.Header.Get("Authorization") != "Bearer "+hookToken || json.NewDecoder(r.Body).Decode(&in) != nil {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	if status := w.fails.Load(); status != 0 {
		rw.WriteHeader(int(status))
		_ = json.NewEncoder(rw).Encode(in)
		return
	}
	w.ehr.SetSecrets("my-app", firstValue, in["client_secret"])
	fmt.Fprintf(rw, `{"version": %q, "status": "set"}`, in["version"])
}

func (w *world) register(rw http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+regToken {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	secret := firstValue
	if r.Method == http.MethodPut {
		w.puts.Add(1)
		secret = issued
		w.ehr.SetSecrets("my-app", issued)
	}
	rw.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(rw, `{"client_id": "my-app", "client_secret": %q, "client_secret_expires_at": 0}`, secret)
}

func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), self, args...)
	cmd.Dir = w.t.TempDir()
	// The race detector makes each process wait a second at its end, by default.
	cmd.Env = append([]string{runMain + "=1", "GORACE=atexit_sleep_ms=0", "HOME=" + cmd.Dir}, w.env...)
	if testing.CoverMode() != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+w.t.TempDir()) // or the runtime complains on standard error
	}
	if root, ok := os.LookupEnv("SystemRoot"); ok {
		cmd.Env = append(cmd.Env, "SystemRoot="+root)
	}
	return cmd
}

// run returns how the program ended, and checks that nothing secret shows.
func (w *world) run(args ...string) (stdout, stderr string, status int) {
	w.t.Helper()
	cmd := w.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	w.noLeak(out.String() + errs.String())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (w *world) noLeak(text string) {
	w.t.Helper()
	for _, secret := range []string{
		firstValue, hookToken, regToken, issued, awsfake.SecretAccessKey, w.aws.SecretString("smart", awsfake.Pending),
	} {
		if secret != "" && strings.Contains(text, secret) {
			w.t.Errorf("a secret is in %q", text)
		}
	}
}

func (w *world) flags(more ...string) []string {
	return append([]string{
		"--secret-id", "smart", "--client-id", "my-app", "--base-url", w.ehr.URL, "--scopes", "system/*.rs", "--allow-insecure-loopback",
	}, more...)
}

func (w *world) hookFlags(more ...string) []string {
	return w.flags(append([]string{"--hook", w.url + "/hook", "--hook-token", "env:HOOK_TOKEN"}, more...)...)
}

func TestRotate(t *testing.T) {
	w := newWorld(t, firstValue)
	stdout, stderr, status := w.run(w.hookFlags()...)
	if status != exitDone || strings.TrimSpace(stdout) != w.aws.Version("smart", awsfake.Current) {
		t.Fatalf("status %d, %q\n%s", status, stdout, stderr)
	}
	if w.aws.SecretString("smart", awsfake.Previous) != firstValue || len(w.aws.SecretString("smart", awsfake.Current)) != 43 {
		t.Error("not rotated")
	}
	for _, step := range []string{"createSecret", "setSecret", "testSecret", "finishSecret"} {
		if !strings.Contains(stderr, "step="+step) {
			t.Errorf("%s is not in the log", step)
		}
	}
}

func TestOneStepAfterTheOther(t *testing.T) {
	w := newWorld(t, firstValue)
	var version string
	for i, step := range []string{"createSecret", "setSecret", "testSecret", "finishSecret"} {
		stdout, stderr, status := w.run(w.hookFlags("--step", step)...)
		if status != exitDone || i > 0 && stdout != version {
			t.Fatalf("%s: status %d, %q\n%s", step, status, stdout, stderr)
		}
		version = stdout
	}
	if w.aws.Version("smart", awsfake.Current) != strings.TrimSpace(version) {
		t.Error("not rotated")
	}
}

// A hook that fails: nothing is finished, and the next run goes on.
func TestGoesOn(t *testing.T) {
	w := newWorld(t, firstValue)
	w.fails.Store(http.StatusBadGateway)
	stdout, stderr, status := w.run(w.hookFlags()...)
	pending := w.aws.Version("smart", awsfake.Pending)
	if status != exitServer || stdout != "" || !strings.Contains(stderr, "HTTP 502") || !strings.Contains(stderr, pending) {
		t.Errorf("status %d, %q\n%s", status, stdout, stderr)
	}
	if w.aws.SecretString("smart", awsfake.Current) != firstValue {
		t.Error("AWSCURRENT moved")
	}
	w.fails.Store(0)
	if stdout, stderr, status = w.run(w.hookFlags()...); status != exitDone || strings.TrimSpace(stdout) != pending {
		t.Errorf("status %d, %q\n%s", status, stdout, stderr)
	}
}

func TestRegistrationNeedsAnOverlap(t *testing.T) {
	w := newWorld(t, `{"client_secret": "`+firstValue+`", "registration_client_uri": "URL/register", "registration_access_token": "`+regToken+`"}`)
	flags := w.flags("--field", "client_secret", "--registration")
	_, stderr, status := w.run(flags...)
	if status != exitUsage || !strings.Contains(stderr, "no_overlap") || w.puts.Load() != 0 {
		t.Errorf("status %d, %d updates\n%s", status, w.puts.Load(), stderr)
	}
	stdout, stderr, status := w.run(append(flags, "--no-overlap")...)
	if status != exitDone || w.puts.Load() != 1 || strings.TrimSpace(stdout) != w.aws.Version("smart", awsfake.Current) {
		t.Errorf("status %d, %d updates\n%s", status, w.puts.Load(), stderr)
	}
	if text := w.aws.SecretString("smart", awsfake.Current); !strings.Contains(text, issued) || !strings.Contains(text, regToken) {
		t.Errorf("the value is %s", text)
	}
}

func TestExitStatuses(t *testing.T) {
	tests := []struct {
		name   string
		breaks func(*world)
		args   func(*world) []string
		status int
		says   []string
	}{
		{"no secret", nil, func(w *world) []string { return nil }, exitUsage, []string{"secret-id"}},
		{"neither hook nor registration", nil, func(w *world) []string { return w.flags() }, exitUsage, []string{"hook", "registration"}},
		{"both", nil, func(w *world) []string { return w.hookFlags("--registration", "--field", "x") }, exitUsage, []string{"state one of them"}},
		{"all that is wrong at once", nil, func(w *world) []string { return []string{"--secret-id", "smart", "--test", "x", "--hook", "http://x/"} }, exitUsage, []string{"hook-token", "test", "scopes"}},
		{"a secret in the wrong place", nil, func(w *world) []string { return w.hookFlags("--length", hookToken) }, exitUsage, []string{"--length", "int"}},
		{"a word too many", nil, func(w *world) []string { return w.hookFlags(hookToken) }, exitUsage, []string{"belongs to no flag"}},
		{"a secret as a flag", nil, func(w *world) []string { return w.hookFlags("--" + hookToken) }, exitUsage, []string{"flag"}},
		{"unknown step", nil, func(w *world) []string { return w.hookFlags("--step", "x") }, exitUsage, []string{"createSecret"}},
		{"version without step", nil, func(w *world) []string { return w.hookFlags("--version-id", "x") }, exitUsage, []string{"--step"}},
		{"http", nil, func(w *world) []string {
			args := w.hookFlags()
			return append(args, "--allow-insecure-loopback=false")
		}, exitUsage, []string{"AWS_ENDPOINT_URL"}},
		{"no such secret", nil, func(w *world) []string { return w.hookFlags("--secret-id", "other") }, exitBackend, []string{"ResourceNotFoundException"}},
		{"AWS denies", func(w *world) { w.aws.Deny("", "") }, func(w *world) []string { return w.hookFlags() }, exitBackend, []string{"AccessDeniedException", "role"}},
		{"AWS is down", func(w *world) { w.aws.Close() }, func(w *world) []string { return w.hookFlags() }, exitBackend, []string{"unavailable"}},
		{"no hook token", nil, func(w *world) []string { return w.hookFlags("--hook-token", "env:NO_SUCH_VARIABLE") }, exitBackend, []string{"hook's token"}},
		{"hook refuses", func(w *world) { w.fails.Store(http.StatusForbidden) }, func(w *world) []string { return w.hookFlags() }, exitServer, []string{"HTTP 403"}},
		{"no such hook", func(w *world) { w.fails.Store(http.StatusNotFound) }, func(w *world) []string { return w.hookFlags() }, exitServer, []string{"HTTP 404"}},
		{"no step before", nil, func(w *world) []string { return w.hookFlags("--step", "testSecret") }, exitBackend, []string{"createSecret comes first"}},
		{"the server refuses", func(w *world) {
			w.ehr.AddClient(smartauthtest.Client{ID: "other", Secrets: []string{"x"}, Scopes: []string{"system/*.rs"}})
		}, func(w *world) []string { return w.hookFlags("--client-id", "other") }, exitRefused, []string{"nothing was finished"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, firstValue)
			if test.breaks != nil {
				test.breaks(w)
			}
			stdout, stderr, status := w.run(test.args(w)...)
			if status != test.status || stdout != "" {
				t.Errorf("status %d, want %d, %q\n%s", status, test.status, stdout, stderr)
			}
			for _, text := range test.says {
				if !strings.Contains(stderr, text) {
					t.Errorf("standard error does not say %q:\n%s", text, stderr)
				}
			}
		})
	}
}

func TestHelp(t *testing.T) {
	w := newWorld(t, firstValue)
	stdout, _, status := w.run("--help")
	if status != exitDone || !strings.Contains(stdout, "--no-overlap") || !strings.Contains(stdout, "SMARTCRED_ROTATE_BASE_URL") {
		t.Errorf("status %d\n%s", status, stdout)
	}
}

func TestWhereTheHooksTokenIsKept(t *testing.T) {
	w := newWorld(t, firstValue)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(hookToken), 0o600); err != nil {
		t.Fatal(err)
	}
	w.aws.CreateSecret("hook", `{"token": "`+hookToken+`"}`)
	for _, uri := range []string{"env:HOOK_TOKEN", "file:" + filepath.ToSlash(path), "awssecretsmanager:///hook#token"} {
		if _, stderr, status := w.run(w.hookFlags("--hook-token", uri)...); status != exitDone {
			t.Errorf("%s: status %d\n%s", uri, status, stderr)
		}
	}
}

// rotateSecret does what Secrets Manager does before it calls the function.
func (w *world) rotateSecret() (version string) {
	w.t.Helper()
	client := secretsmanager.New(secretsmanager.Options{
		Region: awsfake.Region, BaseEndpoint: &w.aws.URL,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})
	id := "smart"
	out, err := client.RotateSecret(w.t.Context(), &secretsmanager.RotateSecretInput{SecretId: &id, RotationLambdaARN: aws.String("arn:aws:lambda:eu-central-1:111122223333:function:rotate")})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VersionId
}
