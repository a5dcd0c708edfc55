package signer

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

// A recorder keeps events, for tests to look at.
type recorder struct {
	mu     sync.Mutex
	events []smartcred.Event
}

func (r *recorder) Observe(_ context.Context, e smartcred.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// take returns the events since the last call, as "kind version" or "kind".
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		out = append(out, strings.TrimSpace(string(e.Kind)+" "+e.Version))
	}
	r.events = nil
	return out
}

// putKey puts testdata/keys/FROM at path, as a careful owner does.
func putKey(t testing.TB, path, from string) {
	t.Helper()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, keyData(t, from), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func openKeyFile(t testing.TB, path string, opts *FileOptions) *FileSigner {
	t.Helper()
	f, err := File(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// listed returns the keys as "name", "name staged".
func listed(t testing.TB, s Signer) []string {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, name := range []string{"p384", "p384_x0", "p384_y0", "p384_d0", "rsa2048", "rsa3072"} {
		thumb, err := Thumbprint(testKey(t, name).Public())
		if err != nil {
			t.Fatal(err)
		}
		names[thumb] = name
	}
	var out []string
	for _, k := range keys {
		name := names[k.ID]
		if k.NotBefore.Equal(Unscheduled) {
			name += " staged"
		}
		out = append(out, name)
	}
	return out
}

func TestFileStages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	events := &recorder{}
	f := openKeyFile(t, path, &FileOptions{Observer: events})
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, listed(t, f)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	}
	putKey(t, path, "p384.pem")
	expect("p384")
	putKey(t, path+".next", "p384_x0.pem")
	expect("p384_x0 staged", "p384")
	putKey(t, path+".previous", "rsa2048.pem")
	expect("p384_x0 staged", "p384", "rsa2048")

	putKey(t, path, "p384_x0.pem") // moved on by a copy: it is current now
	expect("p384_x0", "rsa2048")
	putKey(t, path+".previous", "p384.pem")
	if err := os.Remove(path + ".next"); err != nil {
		t.Fatal(err)
	}
	expect("p384_x0", "p384")
	if got := events.take(); got != nil {
		t.Errorf("events %v", got)
	}
}

func TestFileBrokenNeighbours(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	events := &recorder{}
	f := openKeyFile(t, path, &FileOptions{Observer: events})
	putKey(t, path, "p384.pem")
	putKey(t, path+".next", "rsa1024.pem")
	putKey(t, path+".previous", "no_pem.pem")
	for range 3 {
		if diff := cmp.Diff([]string{"p384"}, listed(t, f)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]string{"key_left_out", "key_left_out"}, events.take()); diff != "" {
		t.Errorf("each is told once (-want +got):\n%s", diff)
	}
	putKey(t, path+".next", "p521.pem")
	listed(t, f)
	if diff := cmp.Diff([]string{"key_left_out"}, events.take()); diff != "" {
		t.Errorf("another reason is told (-want +got):\n%s", diff)
	}
}

func TestFileOfJWKSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	events := &recorder{}
	f := openKeyFile(t, path, &FileOptions{Observer: events})
	putKey(t, path, "private_with_unsupported.jwks.json")
	for range 2 {
		if diff := cmp.Diff([]string{"p384"}, listed(t, f)); diff != "" {
			t.Errorf("keys (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]string{"key_left_out", "key_left_out", "key_left_out"}, events.take()); diff != "" {
		t.Errorf("each member is told once (-want +got):\n%s", diff)
	}
	putKey(t, path, "private_rsa_ec.jwks.json")
	if diff := cmp.Diff([]string{"rsa2048", "p384"}, listed(t, f)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestFileRefuses(t *testing.T) {
	if _, err := File("", nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("no path: %v", err)
	}
	if _, err := File("key.pem", &FileOptions{Algorithm: "none"}); !errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		t.Errorf("no algorithm: %v", err)
	}
}

func TestFileSignSeesReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key.pem")
		f := openKeyFile(t, path, nil)
		putKey(t, path, "p384.pem")
		keys, err := f.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		old := keys[0]
		sign := func(key Key) error {
			sig, err := f.Sign(t.Context(), key, []byte("input"))
			if err == nil {
				err = Verify(key, []byte("input"), sig)
			}
			return err
		}
		if err := sign(old); err != nil {
			t.Fatal(err)
		}
		putKey(t, path, "p384_x0.pem")
		if err := sign(old); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("the old key signs on: %v", err)
		}
		putKey(t, path+".previous", "p384.pem")
		if err := sign(old); err != nil {
			t.Errorf("the previous key: %v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := f.Keys(t.Context()); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("error %v, want ErrNotFound", err)
		}
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("a missing file counted after %s", waited)
		}
		if err := sign(old); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("previous signs in the place of current: %v", err)
		}
		if f.loaded.Load() != nil {
			t.Error("removed keys are still in memory")
		}
	})
}

func TestFileSecondLook(t *testing.T) {
	for name, before := range map[string]string{"missing": "", "half written": "rsa2048.truncated.pem"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "key.pem")
				if before != "" {
					putKey(t, path, before)
				}
				f := openKeyFile(t, path, nil)
				go func() {
					time.Sleep(time.Second / 2)
					putKey(t, path, "p384.pem")
				}()
				if diff := cmp.Diff([]string{"p384"}, listed(t, f)); diff != "" {
					t.Errorf("keys (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// However many callers find the file missing, each waits a second.
func TestFileMissingForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openKeyFile(t, filepath.Join(t.TempDir(), "absent"), nil)
		start := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if _, err := f.Sign(t.Context(), Key{Version: "x"}, nil); !errors.Is(err, smartcred.ErrNotFound) {
					t.Errorf("error %v", err)
				}
			})
		}
		wg.Wait()
		if waited := time.Since(start); waited != time.Second {
			t.Errorf("waited %s", waited)
		}
	})
}

func TestFileParsesUnchangedContentOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	f := openKeyFile(t, path, nil)
	putKey(t, path, "rsa2048.pem")
	first, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	putKey(t, path+".previous", "rsa2048.pem")
	putKey(t, path, "rsa3072.pem")
	second, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(second) != 2 || first[0].Public != second[1].Public {
		t.Error("content that only moved was parsed again")
	}
	if !strings.Contains(second[1].Custody.Evidence, path+".previous") {
		t.Errorf("evidence %q", second[1].Custody.Evidence)
	}
}

func TestFileModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	putKey(t, path, "p384.pem")
	f := openKeyFile(t, path, nil)
	keys, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o646); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Sign(t.Context(), keys[0], nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("a file that others can write signs: %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	events := &recorder{}
	lax := openKeyFile(t, path, &FileOptions{InsecurePermissions: true, Observer: events})
	for range 2 {
		if _, err := lax.Keys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"insecure_permissions"}, events.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestFilePassphrase(t *testing.T) {
	const passphrase = "a passphrase of some length"
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, encryptedPEM(t, passphrase, 16, 2048), 0o600); err != nil {
		t.Fatal(err)
	}
	source := &passphraseSource{current: "changed " + passphrase, previous: passphrase}
	f := openKeyFile(t, path, &FileOptions{Passphrase: source})
	for range 3 {
		keys, err := f.Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(keys[0].Custody.Evidence, "encrypted") {
			t.Errorf("evidence %q", keys[0].Custody.Evidence)
		}
	}
	if source.asked != 2 {
		t.Errorf("the source was asked %d times, want once for each stage", source.asked)
	}
}

type passphraseSource struct {
	current, previous string
	asked             int
}

func (p *passphraseSource) Lookup(_ context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	p.asked++
	if stage == secretsource.Previous {
		return secretsource.New([]byte(p.previous), "1"), nil
	}
	return secretsource.New([]byte(p.current), "2"), nil
}

func TestFileClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	putKey(t, path, "p384.pem")
	f := openKeyFile(t, path, nil)
	keys, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Keys(t.Context()); !errors.Is(err, smartcred.ErrClosed) {
		t.Errorf("Keys: %v", err)
	}
	if _, err := f.Sign(t.Context(), keys[0], nil); !errors.Is(err, smartcred.ErrClosed) {
		t.Errorf("Sign: %v", err)
	}
}

func TestFileHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := openKeyFile(t, filepath.Join(t.TempDir(), "absent"), nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := f.Keys(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(start); waited != 10*time.Millisecond {
			t.Errorf("waited %s", waited)
		}
	})
}

// Nothing that holds a private key shows it, whatever prints it.
func TestPrintingShowsNoPrivateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	putKey(t, path, "p384.pem")
	f := openKeyFile(t, path, nil)
	keys, err := f.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewKeySet(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	adapter, _ := testSigner(t, "p384", nil)
	d, err := readObject(keyData(t, "p384.private.jwk.json"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := d.bytes("d")
	if err != nil {
		t.Fatal(err)
	}
	ecdsaD := fmt.Sprint(secret)
	values := map[string]any{
		"FileSigner": f, "FileSigner value": struct{ f *FileSigner }{f}, "loaded": f.loaded.Load(), "loaded value": *f.loaded.Load(),
		"localKey": f.loaded.Load().keys[0], "KeySet": set, "CryptoSigner": adapter, "keys": keys,
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			out := fmt.Sprintf(verb, v)
			for _, form := range []string{ecdsaD[1 : len(ecdsaD)-1], fmt.Sprintf("%x", secret), b64(secret), fmt.Sprintf("%d", testD(secret))} {
				if strings.Contains(out, form) {
					t.Errorf("%s of %s shows the private key", verb, name)
				}
			}
		}
	}
}

func testD(secret []byte) *big.Int { return new(big.Int).SetBytes(secret) }
