//go:build unix

package program

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

// A recorder keeps events.
type recorder struct {
	mu     sync.Mutex
	events []smartcred.Event
}

func (r *recorder) Observe(_ context.Context, e smartcred.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) of(kind smartcred.EventKind) (found []smartcred.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// modes makes a harness' functions of the test plugin's modes.
func (b *bench) modes(mode string) func(*testing.T) func() {
	return func(*testing.T) func() { return b.is(mode) }
}

func TestSignerConformance(t *testing.T) {
	for _, garbage := range []string{"garbage", "name"} {
		t.Run(garbage, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) *signertest.Harness {
				b := newBench(t)
				b.newKey()
				return &signertest.Harness{
					Open:    func(*testing.T) signer.Signer { return b.signer() },
					Rotate:  func(*testing.T) { b.newKey() },
					Disable: func(_ *testing.T, version string) { b.write(version+".disabled", "") },
					Deny:    b.modes("deny"), Stop: b.modes("stop"), Stall: b.modes("stall"), Garble: b.modes(garbage),
					Secrets: []string{credential},
				}
			})
		})
	}
}

func TestSourceConformance(t *testing.T) {
	for _, garbage := range []string{"garbage", "name"} {
		t.Run(garbage, func(t *testing.T) {
			secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
				b := newBench(t)
				return &secretsourcetest.Harness{
					Open:   func(*testing.T) secretsource.Source { return b.source() },
					Set:    func(_ *testing.T, value string) { b.set(value) },
					Remove: func(*testing.T) { _ = os.Remove(string(b.folder) + "/secret.current") },
					Deny:   b.modes("deny"), Stop: b.modes("stop"), Stall: b.modes("stall"), Garble: b.modes(garbage),
					HasPrevious: true,
					Secrets:     []string{credential},
				}
			})
		})
	}
}

func TestWhatTheProgramSays(t *testing.T) {
	b := newBench(t)
	b.newKey()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b.addKey(private)
	s, err := signer.Open(t.Context(), "plugin://test/a/b", &signer.OpenOptions{OpenOptions: b.options(), PublishFor: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.(*programSigner).Close()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || keys[0].Algorithm != signer.RS384 || keys[1].Algorithm != signer.ES384 {
		t.Fatalf("keys %+v", keys)
	}
	thumbprint, _ := signer.Thumbprint(private.Public())
	want := signer.Custody{Level: signer.CustodyExportable, Evidence: "plugin test says: a file of the test's"}
	if k := keys[0]; k.Custody != want || k.ID != thumbprint || !k.NotBefore.Equal(time.Unix(1e9+3600, 0)) {
		t.Errorf("key %+v", k)
	}
	for _, k := range keys {
		sig, err := s.Sign(t.Context(), k, []byte("a.b"))
		if err != nil {
			t.Fatal(err)
		}
		if err := signer.Verify(k, []byte("a.b"), sig); err != nil {
			t.Error(err)
		}
	}

	b.set("value")
	secret, err := b.source().Lookup(t.Context(), secretsource.Current)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(secret.Version, "fp-") && secret.Version == "" || secret.Expires.Year() != 2030 {
		t.Errorf("secret of version %q, expires %s", secret.Version, secret.Expires)
	}
}

func TestEverySignatureIsVerified(t *testing.T) {
	b := newBench(t)
	b.newKey()
	s := b.signer()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		restore := b.is("wrong signature")
		if _, err := s.Sign(t.Context(), keys[0], []byte("a.b")); !errors.Is(err, signer.ErrBadSignature) {
			t.Errorf("Sign = %v, want ErrBadSignature", err)
		}
		restore()
		if _, err := s.Sign(t.Context(), keys[0], []byte("a.b")); err != nil {
			t.Error(err)
		}
		restore = b.is("signature in DER")
		if _, err := s.Sign(t.Context(), keys[0], []byte("a.b")); !errors.Is(err, signer.ErrBadSignature) || !strings.Contains(err.Error(), "signature_der") {
			t.Errorf("Sign = %v, want ErrBadSignature that names signature_der", err)
		}
		restore()
	}
}

// TestFaults: each gives a typed error in bounded time, and the next call works.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		mode string
		want error
		says string
	}{
		{"crash", smartcred.ErrUnavailable, "exit status 3"},
		{"end", smartcred.ErrUnavailable, "exit status 0"},
		{"stall", smartcred.ErrUnavailable, "did not answer within 1s"},
		{"deaf", smartcred.ErrUnavailable, "did not answer within 1s"},
		{"leave its group", smartcred.ErrUnavailable, "did not answer within 1s"},
		{"leave a daemon", smartcred.ErrUnavailable, "exit status 3"},
		{"garbage", smartcred.ErrUnavailable, "broke the protocol: not a JSON text"},
		{"no answer", smartcred.ErrUnavailable, "broke the protocol"},
		{"unasked", smartcred.ErrUnavailable, "answered what was not asked"},
		{"long line", smartcred.ErrUnavailable, "a line of more than"},
		{"flood", smartcred.ErrUnavailable, "answered what was not asked"},
		{"loud", nil, ""},
		{"config", smartcred.ErrInvalidConfig, "can't work as it is configured"},
		{"hello crash", smartcred.ErrUnavailable, "exit status 3"},
		{"hello stall", smartcred.ErrUnavailable, "did not say what it is within 1s"},
		{"hello garbage", smartcred.ErrUnavailable, "broke the protocol: not a JSON text"},
		{"hello not found", smartcred.ErrUnavailable, "it answered hello as if a secret or key had been asked for"},
		{"hello no method", smartcred.ErrUnavailable, "does not know the method hello"},
		{"hello flood", smartcred.ErrUnavailable, "answered what was not asked"},
		{"hello version", smartcred.ErrInvalidConfig, "update the older"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			b := newBench(t)
			b.set("value")
			s := b.source()
			s.requestTimeout, s.startTimeout = time.Second, time.Second
			if !strings.HasPrefix(tt.mode, "hello ") {
				if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
					t.Fatal(err)
				}
			}
			restore := b.is(tt.mode)
			defer b.endDaemon()
			if strings.HasPrefix(tt.mode, "hello ") || tt.want == nil {
				s.requestTimeout = 5 * time.Second
			}
			began := time.Now()
			_, err := s.Lookup(t.Context(), secretsource.Current)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("Lookup = %v, want %v", err, tt.want)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), credential)) {
				t.Errorf("error %q, want it to say %q", err, tt.says)
			}
			restore()
			s.requestTimeout = 5 * time.Second
			if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
				t.Errorf("the next call: %v", err)
			}
			closed := make(chan error, 1)
			go func() { closed <- s.Close() }()
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("Close does not return")
			}
			for _, e := range b.events.of(smartcred.EventPluginMessage) {
				if len(e.Detail) > maxMessage || strings.ContainsAny(e.Detail, "\x1b\n") || strings.Contains(e.Detail, credential) || e.Backend != "plugin://test/" {
					t.Errorf("event %+v", e)
				}
			}
			if n := len(b.events.of(smartcred.EventPluginMessage)); n > messageBurst+5 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// TestDeadline: a caller's deadline holds, and other callers of a program that
// hangs get their answers from the next one.
func TestDeadline(t *testing.T) {
	b := newBench(t)
	b.set("value")
	s := b.source()
	if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
		t.Fatal(err)
	}
	restore := b.is("stall")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := s.Lookup(ctx, secretsource.Current); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second || ctx.Err() == nil {
		t.Errorf("Lookup = %v after %s, the context's error is %v", err, time.Since(began), ctx.Err())
	}
	other := make(chan error, 1)
	go func() {
		_, err := s.Lookup(t.Context(), secretsource.Previous) // stalls too, until the first is overdue
		other <- err
	}()
	for s.pending() < 2 {
		time.Sleep(time.Millisecond)
	}
	restore()
	select {
	case err := <-other:
		if !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("the other caller got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the other caller waits")
	}
}

// TestDeadlineBelowAMillisecond: what is too short for the protocol's unit is the
// caller's deadline still, and no outage of the program.
func TestDeadlineBelowAMillisecond(t *testing.T) {
	b := newBench(t)
	b.set("value")
	s := b.source()
	if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
		t.Fatal(err)
	}
	b.is("stall")
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Microsecond)
		if _, err := s.Lookup(ctx, secretsource.Current); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() == nil {
			t.Errorf("Lookup = %v, the context's error is %v", err, ctx.Err())
		}
		cancel()
	}
}

// TestGivenUpBeforeItIsSent: who leaves before a byte of its request is written
// takes the program from nobody.
func TestGivenUpBeforeItIsSent(t *testing.T) {
	b := newBench(t)
	b.set("value")
	s := b.source()
	if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	p := s.live
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.write(ctx, []byte("{}\n")); !errors.Is(err, context.Canceled) {
		t.Errorf("write = %v", err)
	}
	if !p.serving() {
		t.Errorf("the program is ended: %v", p.reason())
	}
}

// TestDeadlineWithinALine: that one caller's time is up while another's answer is
// on its way ends nothing.
func TestDeadlineWithinALine(t *testing.T) {
	b := newBench(t)
	b.set("value")
	s := b.source()
	if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
		t.Fatal(err)
	}
	restore := b.is("half a line")
	short, other := make(chan error, 1), make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := s.Lookup(ctx, secretsource.Previous)
		short <- err
	}()
	for s.pending() < 1 { // it reads, for the other one too
		time.Sleep(time.Millisecond)
	}
	go func() {
		_, err := s.Lookup(t.Context(), secretsource.Current)
		other <- err
	}()
	for half := filepath.Join(string(b.folder), "half"); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(half); err == nil {
			break
		}
	}
	if err := <-short; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lookup = %v, want its deadline", err)
	}
	restore()
	if err := <-other; err != nil {
		t.Errorf("the other caller got %v", err)
	}
}

// pending is how many requests the live process has.
func (r *runner) pending() int {
	r.mu.Lock()
	p := r.live
	r.mu.Unlock()
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending)
}

func TestCrashWhileIdle(t *testing.T) {
	b := newBench(t)
	b.set("value")
	s := b.source()
	for range 3 {
		if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		p := s.live
		s.mu.Unlock()
		killGroup(p.cmd.Process)
		<-p.done
	}
}

func TestBackOff(t *testing.T) {
	b := newBench(t)
	b.set("value")
	s := b.source()
	restore := b.is("hello crash")
	var last error
	for range 4 {
		_, last = s.Lookup(t.Context(), secretsource.Current)
	}
	var unavailable *smartcred.UnavailableError
	if !errors.As(last, &unavailable) || unavailable.RetryAfter <= 0 || unavailable.RetryAfter > time.Second {
		t.Fatalf("Lookup = %v, want a RetryAfter of a second", last)
	}
	restore()
	if n := len(b.events.of(smartcred.EventPluginMessage)); n != 2 {
		t.Errorf("it was started %d times, want 2", n)
	}
	s.mu.Lock()
	s.restarts.until = time.Now()
	s.mu.Unlock()
	if _, err := s.Lookup(t.Context(), secretsource.Current); err != nil {
		t.Error(err)
	}
}

func TestRestarts(t *testing.T) {
	now := time.Unix(0, 0)
	var r restarts
	for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
		r.failed(now, now, errors.New("crash"))
		if got := r.wait(now); got != want*time.Second {
			t.Errorf("after %d failures: %s, want %s", i+1, got, want*time.Second)
		}
		now = now.Add(r.wait(now))
	}
	r.succeeded()
	began := now
	for range 8 { // side by side
		now = now.Add(time.Millisecond)
		r.failed(began, now, errors.New("crash"))
		if got := r.wait(now); got != 0 {
			t.Errorf("after a success and a failure: %s", got)
		}
	}
}

// TestOneShotsFailSideBySide: one outage that many callers meet is one failure.
func TestOneShotsFailSideBySide(t *testing.T) {
	dir := private(t)
	path := executable(t, filepath.Join(dir, "script"), strings.Replace(script("good"), "\n*) echo", "\n*) [ -e "+dir+"/up ] || { sleep 0.2; exit 1; }\necho", 1))
	up := filepath.Join(dir, "up")
	src, err := openScript(t, secretsource.Plugin{Path: path, Env: []string{"PATH"}})
	if err != nil {
		t.Fatal(err)
	}
	executable(t, up, "")
	if got := word(t, src); got != "good" {
		t.Fatal(got)
	}
	if err := os.Remove(up); err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	for range maxOneShots {
		callers.Go(func() {
			if _, err := src.Lookup(t.Context(), secretsource.Current); !errors.Is(err, smartcred.ErrUnavailable) {
				t.Errorf("Lookup = %v", err)
			}
		})
	}
	callers.Wait()
	executable(t, up, "")
	if got := word(t, src); got != "good" {
		t.Errorf("the next call says %q", got)
	}
}

// TestOneShotsShareTheirLog: what is started for each request has no more lines
// than what lives on.
func TestOneShotsShareTheirLog(t *testing.T) {
	path := executable(t, filepath.Join(private(t), "script"), strings.Replace(script("good"), "\nread", "\necho 1 >&2; echo 2 >&2; echo 3 >&2\nread", 1))
	var events recorder
	src, err := secretsource.Open(t.Context(), "plugin://script/x", &secretsource.OpenOptions{
		Observer: &events, Plugins: map[string]secretsource.Plugin{"script": {Path: path}}})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range messageBurst {
		if got := word(t, src); got != "good" {
			t.Fatal(got)
		}
	}
	if err := src.(*programSource).Close(); err != nil {
		t.Error(err)
	}
	most := messageBurst + 2*int(time.Since(began)/messagePause+1)
	if n := len(events.of(smartcred.EventPluginMessage)); n < messageBurst || n > most {
		t.Errorf("%d messages of %d lines, want %d at most", n, 3*messageBurst, most)
	}
}
