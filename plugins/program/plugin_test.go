//go:build unix

package program

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program/pluginmain"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// TestMain makes the test binary, under another name, be the plugin of the tests.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), onPath) {
		testPlugin(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	status := func() int {
		dir, err := os.MkdirTemp("", "smartcred-test-") // 0700 whatever the umask
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		testProgram = filepath.Join(dir, onPath+"test")
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		content, err := os.ReadFile(self)
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(testProgram, content, 0o700); err != nil {
			panic(err)
		}
		return m.Run()
	}()
	os.Exit(status)
}

// testProgram is the test binary under its other name.
var testProgram string

// testPlugin is a good plugin over a folder, unless the folder's file mode says
// how it is to be bad. The folder is its one variable: it begins before hello.
func testPlugin(stdin io.Reader, stdout *os.File) {
	dir := os.Getenv("TEST_PLUGIN_DIR")
	backend := folder(dir)
	in, feed := io.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = pluginmain.Serve(context.Background(), pluginmain.Plugin{Signer: backend.openSigner, Source: backend.openSource}, in, stdout)
	}()
	lines := bufio.NewReader(stdin)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			feed.Close()
			<-served
			return
		}
		if !misbehave(backend, line, stdout) {
			_, _ = io.WriteString(feed, line)
		}
	}
}

// misbehave does what mode says in place of answering.
func misbehave(backend folder, line string, stdout *os.File) bool {
	mode := backend.mode()
	hello, atHello := strings.Contains(line, `"method":"hello"`), strings.HasPrefix(mode, "hello ")
	if hello != atHello {
		return false
	}
	id := strings.SplitN(strings.TrimPrefix(line, `{"id":`), ",", 2)[0]
	// Garbage holds all that the program was given.
	echo := fmt.Sprintf("%q %q", line, os.Environ())
	switch strings.TrimPrefix(mode, "hello ") {
	case "crash":
		fmt.Fprintln(os.Stderr, "crashing", echo)
		os.Exit(3)
	case "end":
		os.Exit(0)
	case "stall":
		return true
	case "garbage":
		fmt.Fprintln(stdout, echo)
	case "no answer":
		fmt.Fprintf(stdout, "{\"id\":%s,\"said\":%q}\n", id, echo)
	case "name":
		fmt.Fprintf(stdout, "{\"id\":%s,\"secret\":\"x\",\"version\":%q,\"keys\":[{\"version\":%q}]}\n", id, echo, echo)
	case "unasked":
		fmt.Fprintf(stdout, "{\"id\":99999,\"secret\":\"x\"}\n")
	case "long line":
		for {
			if _, err := io.WriteString(stdout, strings.Repeat("x", 4096)); err != nil {
				return true
			}
		}
	case "flood":
		for {
			if _, err := io.WriteString(stdout, strings.Repeat("{\"id\":77777}\n", 300)); err != nil {
				return true
			}
		}
	case "loud":
		for i := range 5000 {
			fmt.Fprintln(os.Stderr, i, strings.Repeat("\x1b[31mnoise", 500))
		}
		return false
	case "half a line": // the rest when the mode is another
		if !strings.Contains(line, `"current"`) {
			return true
		}
		fmt.Fprintf(stdout, "{\"id\":%s,", id)
		if err := os.WriteFile(filepath.Join(string(backend), "half"), nil, 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		for backend.mode() == mode {
			time.Sleep(time.Millisecond)
		}
		fmt.Fprintln(stdout, `"secret":"value"}`)
	case "deaf":
		select {}
	case "leave its group":
		group, err := syscall.Getpgid(os.Getppid())
		if err == nil {
			err = syscall.Setpgid(0, group)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return false
		}
		select {}
	case "leave a daemon": // that holds the pipes
		daemon := exec.Command("/bin/sleep", "3600")
		daemon.Stdout, daemon.Stderr = stdout, os.Stderr
		daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := daemon.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return false
		}
		if err := os.WriteFile(filepath.Join(string(backend), "daemon"), []byte(strconv.Itoa(daemon.Process.Pid)), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(3)
	case "not found":
		fmt.Fprintf(stdout, "{\"id\":%s,\"error\":{\"code\":\"not_found\"}}\n", id)
	case "no method":
		fmt.Fprintf(stdout, "{\"id\":%s,\"error\":{\"code\":\"unsupported_method\"}}\n", id)
	case "version":
		fmt.Fprintf(stdout, "{\"id\":%s,\"protocol\":2,\"mode\":\"telepathic\"}\n", id)
	case "wrong signature":
		fmt.Fprintf(stdout, "{\"id\":%s,\"signature\":\"%s\"}\n", id, strings.Repeat("AAAA", 32))
	case "signature in DER": // R and S are 1
		fmt.Fprintf(stdout, "{\"id\":%s,\"signature\":\"MAYCAQECAQE=\"}\n", id)
	case "once":
		// hello is answered, and one request: what starts it again finds it good
		_ = os.Remove(filepath.Join(string(backend), "mode"))
		os.Exit(3)
	default:
		return false
	}
	return true
}

// A folder keeps the keys and secrets of the test plugin.
type folder string

func (f folder) mode() string {
	text, _ := os.ReadFile(filepath.Join(string(f), "mode"))
	return string(text)
}

func (f folder) answer() error {
	switch f.mode() {
	case "deny":
		return smartcred.ErrDenied
	case "stop":
		return &smartcred.UnavailableError{RetryAfter: time.Millisecond, Err: errors.New("its backend is down")}
	case "config":
		return smartcred.ErrInvalidConfig
	}
	return nil
}

func (f folder) openSigner(_ context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
	if _, err := secretsource.CheckQuery(u, "color"); err != nil {
		return nil, err
	}
	return folderSigner{folder: f, publishFor: opts.PublishFor}, nil
}

func (f folder) openSource(_ context.Context, u *url.URL, _ *secretsource.OpenOptions) (secretsource.Source, error) {
	if _, err := secretsource.CheckQuery(u, "color"); err != nil {
		return nil, err
	}
	return folderSource{f}, nil
}

type folderSource struct{ folder }

func (f folderSource) Lookup(_ context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	if err := f.answer(); err != nil {
		return secretsource.Secret{}, err
	}
	value, err := os.ReadFile(filepath.Join(string(f.folder), "secret."+stage.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return secretsource.Secret{}, smartcred.ErrNotFound
	}
	if err != nil {
		return secretsource.Secret{}, err
	}
	s := secretsource.New(value, "")
	s.Expires = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return s, nil
}

type folderSigner struct {
	folder
	publishFor time.Duration
}

func (f folderSigner) Keys(context.Context) ([]signer.Key, error) {
	if err := f.answer(); err != nil {
		return nil, err
	}
	var keys []signer.Key
	for n := 1; ; n++ {
		private, err := f.private(strconv.Itoa(n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		alg, err := signer.AlgorithmFor(private.Public(), "")
		if err != nil {
			return nil, err
		}
		k := signer.Key{Version: strconv.Itoa(n), Algorithm: alg, Public: private.Public(), Custody: signer.Custody{Level: signer.CustodyExportable, Evidence: "a file of the test's"}}
		if f.publishFor > 0 {
			k.NotBefore = time.Unix(1e9, 0).Add(f.publishFor)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, smartcred.ErrNotFound
	}
	slices.Reverse(keys)
	return keys, nil
}

func (f folderSigner) Sign(_ context.Context, key signer.Key, input []byte) ([]byte, error) {
	if err := f.answer(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(string(f.folder), key.Version+".disabled")); err == nil {
		return nil, smartcred.ErrDenied
	}
	private, err := f.private(key.Version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, smartcred.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	sig, err := private.Sign(rand.Reader, key.Algorithm.Digest(input), key.Algorithm.SignerOpts())
	if err == nil && key.Algorithm == signer.ES384 {
		sig, err = signer.RawFromDER(elliptic.P384(), sig)
	}
	return sig, err
}

func (f folder) private(version string) (crypto.Signer, error) {
	data, err := os.ReadFile(filepath.Join(string(f), version+".pem"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key.(crypto.Signer), nil
}

// credential is what the test plugin's environment holds.
const credential = "plugin-credential-0123456789abcdef"

// A bench is the test plugin, its folder, and what was observed.
type bench struct {
	folder
	t      *testing.T
	path   string
	events *recorder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{folder: folder(t.TempDir()), t: t, path: testProgram, events: &recorder{}}
	t.Setenv("TEST_PLUGIN_DIR", string(b.folder))
	t.Setenv("TEST_PLUGIN_CREDENTIAL", credential)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // or each process waits a second at its end
	return b
}

func (b *bench) options() secretsource.OpenOptions {
	return secretsource.OpenOptions{Observer: b.events, Plugins: map[string]secretsource.Plugin{
		"test": {Path: b.path, Env: []string{"TEST_PLUGIN_DIR", "TEST_PLUGIN_CREDENTIAL", "GORACE", "NO_SUCH_VARIABLE"}},
	}}
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	// By a rename, so that nobody reads half of it.
	temporary := filepath.Join(string(b.folder), "new")
	if err := os.WriteFile(temporary, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(string(b.folder), name)); err != nil {
		b.t.Fatal(err)
	}
}

// endDaemon ends what the mode "leave a daemon" left.
func (b *bench) endDaemon() {
	text, err := os.ReadFile(filepath.Join(string(b.folder), "daemon"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	pid, numberErr := strconv.Atoi(string(text))
	if err := errors.Join(err, numberErr); err != nil {
		b.t.Error(err)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		b.t.Errorf("the daemon was to stay: %v", err)
	}
}

func (b *bench) is(mode string) (restore func()) {
	b.write("mode", mode)
	return func() { b.write("mode", "") }
}

// newKey adds a key, newer than all.
func (b *bench) newKey() string {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.addKey(key)
}

func (b *bench) addKey(key crypto.Signer) string {
	b.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	n := 1
	for ; ; n++ {
		if _, err := os.Stat(filepath.Join(string(b.folder), strconv.Itoa(n)+".pem")); err != nil {
			break
		}
	}
	b.write(strconv.Itoa(n)+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return strconv.Itoa(n)
}

func (b *bench) set(value string) {
	b.t.Helper()
	current := filepath.Join(string(b.folder), "secret.current")
	if err := os.Rename(current, filepath.Join(string(b.folder), "secret.previous")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	b.write("secret.current", value)
}

func (b *bench) signer() *programSigner {
	b.t.Helper()
	s, err := signer.Open(b.t.Context(), "plugin://test/some/path?color=red", &signer.OpenOptions{OpenOptions: b.options()})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.(io.Closer).Close() })
	return s.(*programSigner)
}

func (b *bench) source() *programSource {
	b.t.Helper()
	o := b.options()
	s, err := secretsource.Open(b.t.Context(), "plugin://test", &o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = s.(io.Closer).Close() })
	return s.(*programSource)
}
