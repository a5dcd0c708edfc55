package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// runMain makes the test binary be smartcred: the stories run the real main, in
// a process of its own.
const runMain = "SMARTCRED_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A world is a folder and a server that smartcred is run in.
type world struct {
	t   *testing.T
	dir string
	env []string
	srv *smartauthtest.Server
}

func newWorld(t *testing.T, opts *smartauthtest.Options) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), srv: smartauthtest.NewServer(t, opts)}
	return w
}

// A result is how a run ended.
type result struct {
	t              *testing.T
	args           []string
	stdout, stderr string
	status         int
}

func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(w.t.Context(), self, args...)
	cmd.Dir = w.dir
	// The race detector makes each process wait a second at its end, by default.
	cmd.Env = append([]string{runMain + "=1", "GORACE=atexit_sleep_ms=0"}, w.env...)
	if testing.CoverMode() != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+w.t.TempDir()) // or the runtime complains on standard error
	}
	for _, name := range []string{"GODEBUG", "SystemRoot"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

func (w *world) run(args ...string) *result {
	w.t.Helper()
	cmd := w.command(args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return &result{t: w.t, args: args, stdout: stdout.String(), stderr: stderr.String(), status: cmd.ProcessState.ExitCode()}
}

// ok ends the test unless the run succeeded, and returns its standard output.
func (r *result) ok() string {
	r.t.Helper()
	if r.status != exitDone {
		r.t.Fatalf("smartcred %q: status %d\n%s", r.args, r.status, r.stderr)
	}
	return r.stdout
}

// fails checks what every failure promises: its status, nothing on standard
// output, at most 20 lines with what is wrong and what to do next.
func (r *result) fails(status int, says ...string) {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("smartcred %q: status %d, want %d", r.args, r.status, status)
	}
	if r.stdout != "" {
		r.t.Errorf("smartcred %q: standard output after a failure: %q", r.args, r.stdout)
	}
	if lines := strings.Count(r.stderr, "\n"); lines > 20 {
		r.t.Errorf("smartcred %q: %d lines on standard error", r.args, lines)
	}
	for _, text := range append(says, "\nnext: ") {
		if !strings.Contains(r.stderr, text) {
			r.t.Errorf("smartcred %q: standard error does not say %q", r.args, text)
		}
	}
	if r.t.Failed() {
		r.t.Logf("standard error:\n%s", r.stderr)
	}
}

// write makes a file of mode 0600 and returns its path.
func (w *world) write(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// key makes a key with keygen and registers it for the client.
func (w *world) key(alg, file, clientID string) {
	w.t.Helper()
	args := []string{"keygen", "--alg", alg, "--out", file}
	if alg == "RS384" {
		args = append(args, "--bits", "2048")
	}
	w.srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: w.run(args...).ok(), Scopes: []string{"system/*.rs"}})
}

// args are the flags that name the server, and more.
func (w *world) args(command string, more ...string) []string {
	return append([]string{command, "--base-url", w.srv.URL, "--allow-insecure-loopback",
		"--client-id", "app", "--scopes", "system/*.rs"}, more...)
}

func decodeJSON[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
