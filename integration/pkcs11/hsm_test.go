//go:build cgo

package pkcs11

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	_ "github.com/smartcred/smartcred/plugins/pkcs11"
	"github.com/smartcred/smartcred/signer"
)

const (
	tokenLabel = "smart"
	rightPIN   = "pin-canary-7391"
	wrongPIN   = "pin-wrong-canary-1937"
	soPIN      = "so-canary-5555"
)

// What SoftHSM and OpenSC install, on Debian.
var (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	spyHSM  = "/usr/lib/*/pkcs11-spy.so"
	shimHSM string // built by TestMain
)

func TestMain(m *testing.M) {
	if command := os.Getenv("HSM_COMMAND"); command != "" {
		os.Exit(runCommand(command))
	}
	dir, err := os.MkdirTemp("", "smartcred-pkcs11-")
	if err != nil {
		panic(err)
	}
	shimHSM = filepath.Join(dir, "shim.so")
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// An hsm is a SoftHSM of its own for one test. One process has one at a time.
type hsm struct {
	dir  string
	shim string // where the shim is switched and counts
}

// newHSM returns one with an empty token.
func newHSM(t *testing.T) *hsm {
	t.Helper()
	need(t)
	h := &hsm{dir: t.TempDir(), shim: t.TempDir()}
	h.mkdir(t)
	conf := filepath.Join(h.dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", h.tokens())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	t.Setenv("SHIM_MODULE", softHSM)
	t.Setenv("SHIM_DIR", h.shim)
	t.Setenv("HSM_PIN", rightPIN)
	h.initToken(t, tokenLabel)
	return h
}

// need fails or skips where something is missing that a package brings.
func need(t *testing.T) {
	t.Helper()
	missing := func(what string) {
		t.Helper()
		text := "missing: " + what + " (apt-get install softhsm2 opensc gcc libc6-dev)"
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	for _, tool := range []string{"softhsm2-util", "pkcs11-tool"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(tool)
		}
	}
	if _, err := os.Stat(softHSM); err != nil {
		missing(softHSM)
	}
	if _, err := os.Stat(shimHSM); err == nil {
		return
	}
	if ready := os.Getenv("HSM_SHIM"); ready != "" {
		shimHSM = ready
		return
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		missing("gcc")
	}
	include := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11"))
	run(t, gcc, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"+include, "-o", shimHSM, "testdata/shim.c", "-ldl")
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func (h *hsm) tokens() string { return filepath.Join(h.dir, "tokens") }

func (h *hsm) mkdir(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(h.tokens(), 0o700); err != nil {
		t.Fatal(err)
	}
}

func (h *hsm) initToken(t *testing.T, label string) {
	t.Helper()
	run(t, "softhsm2-util", "--module", softHSM, "--init-token", "--free", "--label", label, "--pin", rightPIN, "--so-pin", soPIN)
}

// removeToken takes all tokens away, as somebody else would.
func (h *hsm) removeToken(t *testing.T) {
	t.Helper()
	if err := os.Rename(h.tokens(), filepath.Join(h.dir, "gone")); err != nil { // at once, whoever writes there
		t.Fatal(err)
	}
	h.mkdir(t)
}

func (h *hsm) tool(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, "pkcs11-tool", append([]string{"--module", softHSM, "--token-label", tokenLabel, "--login", "--pin", rightPIN}, args...)...)
}

// Kinds of keys, as pkcs11-tool names them.
const (
	p384    = "EC:secp384r1"
	rsa2048 = "rsa:2048"
)

func (h *hsm) keygen(t *testing.T, kind, label, id string) {
	t.Helper()
	h.tool(t, "--keypairgen", "--key-type", kind, "--label", label, "--id", id)
}

func (h *hsm) deleteKey(t *testing.T, id string) {
	t.Helper()
	h.tool(t, "--delete-object", "--type", "privkey", "--id", id)
	h.tool(t, "--delete-object", "--type", "pubkey", "--id", id)
}

// date sets CKA_START_DATE and CKA_END_DATE, which pkcs11-tool does not.
func (h *hsm) date(t *testing.T, id, start, end string) {
	t.Helper()
	out, err := self(t, "date", "HSM_DATES="+id+","+start+","+end)
	if err != nil {
		t.Fatalf("set dates: %v\n%s", err, out)
	}
}

// self runs this test binary for another command, with more environment.
func self(t *testing.T, command string, env ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(append(os.Environ(), "HSM_COMMAND="+command), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// uri names keys of the token, through a module.
func uri(module, path string, query ...string) string {
	if path != "" {
		path = ";" + path
	}
	return "pkcs11:token=" + tokenLabel + path + "?" + strings.Join(append([]string{"module-path=" + module, "pin-source=env:HSM_PIN"}, query...), "&")
}

func open(t *testing.T, uri string, opts *signer.OpenOptions) signer.Signer {
	t.Helper()
	if opts == nil {
		opts = &signer.OpenOptions{}
	}
	if opts.Observer == nil {
		opts.Observer = smartcred.Discard
	}
	s, err := signer.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closeSigner(s); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func closeSigner(s signer.Signer) error { return s.(interface{ Close() error }).Close() }

// on switches a fault of the shim on, and returns what switches it off.
func (h *hsm) on(t *testing.T, fault string) (off func()) {
	t.Helper()
	path := filepath.Join(h.shim, fault)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

// logins is how often the shim was asked to log in.
func (h *hsm) logins(t *testing.T) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(h.shim, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(log), "C_Login")
}

// spy is OpenSC's module that writes down every call.
func spy(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob(spyHSM)
	if len(found) == 0 {
		t.Fatalf("no %s on this %s machine: apt-get install opensc", spyHSM, runtime.GOOS)
	}
	return found[0]
}

// shows fails where an error shows a PIN.
func shows(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{rightPIN, wrongPIN, soPIN} {
		if strings.Contains(text, secret) {
			t.Errorf("a PIN is in %q", text)
		}
	}
}
