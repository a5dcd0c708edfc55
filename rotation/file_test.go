//go:build unix && !solaris && !aix

package rotation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
)

// The test binary is also the other processes of these tests.
const (
	childMode = "SMARTCRED_ROTATION_TEST_CHILD" // "count" or "crash"
	childFile = "SMARTCRED_ROTATION_TEST_FILE"
	childRuns = 40
)

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "count":
		memory := rotation.File(os.Getenv(childFile))
		for range childRuns {
			if err := memory.Update(context.Background(), "count", plusOne); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	case "crash": // with the file locked, and the new one half written
		memory := rotation.File(os.Getenv(childFile))
		_ = memory.Update(context.Background(), "count", func([]byte) []byte {
			_ = os.WriteFile(filepath.Join(filepath.Dir(os.Getenv(childFile)), ".smartcred-state-1"), []byte(`{"version":1,"entr`), 0o600)
			os.Exit(3)
			return nil
		})
	}
	os.Exit(0)
}

func plusOne(old []byte) []byte {
	n, _ := strconv.Atoi(string(old))
	return []byte(strconv.Itoa(n + 1))
}

func child(t *testing.T, mode, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childFile+"="+path)
	return cmd
}

func kept(t *testing.T, memory rotation.Memory, name string) string {
	t.Helper()
	var got []byte
	if err := memory.Update(t.Context(), name, func(old []byte) []byte {
		got = bytes.Clone(old)
		return old
	}); err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestFileOfSeveralProcesses(t *testing.T) {
	const processes = 6
	path := filepath.Join(t.TempDir(), "state")
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			if out, err := child(t, "count", path).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	if got, want := kept(t, rotation.File(path), "count"), strconv.Itoa(processes*childRuns); got != want {
		t.Errorf("count = %s, want %s: processes lost each other's changes", got, want)
	}
}

func TestFileOfManyGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	shared := rotation.File(path)
	var all sync.WaitGroup
	for n := range 8 {
		memory := shared
		if n%2 == 0 {
			memory = rotation.File(path) // as another engine of this process has it
		}
		all.Go(func() {
			for range 20 {
				if err := memory.Update(t.Context(), "count", plusOne); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := kept(t, shared, "count"); got != "160" {
		t.Errorf("count = %s, want 160", got)
	}
}

func TestFileAfterACrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	memory := rotation.File(path)
	if err := memory.Update(t.Context(), "count", plusOne); err != nil {
		t.Fatal(err)
	}
	err := child(t, "crash", path).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("the child ended with %v, want status 3", err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".smartcred-state-1")); err != nil {
		t.Fatalf("the crash left nothing behind: %v", err)
	}
	if got := kept(t, memory, "count"); got != "1" {
		t.Errorf("count = %s after a crash, want 1 as before it", got)
	}
	if err := memory.Update(t.Context(), "count", plusOne); err != nil {
		t.Errorf("the lock of a process that crashed: %v", err)
	}
}

func TestFileThatIsNoStateFile(t *testing.T) {
	tests := map[string]string{
		"empty":           "",
		"cut off":         `{"version":1,"entries":{"key":"`,
		"not JSON":        "\x00\x01\x02",
		"another version": `{"version":2,"entries":{}}`,
		"a list":          `[]`,
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			err := rotation.File(path).Update(t.Context(), "count", plusOne)
			if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "state_file") {
				t.Errorf("err = %v, want ErrInvalidConfig that names state_file", err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != content {
				t.Errorf("the file was changed to %q (%v)", after, err)
			}
			// It holds no call up.
			w := newWorld("a")
			w.accept("a")
			e := rotation.New[string](&rotation.Options{Memory: rotation.File(path), Observer: smartcred.Discard})
			if err := e.Do(t.Context(), w.call()); err != nil {
				t.Errorf("a call: %v", err)
			}
		})
	}
}

func TestFileIsReadByItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	memory := rotation.File(path)
	if err := memory.Update(t.Context(), "count", plusOne); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".lock"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v), want 0600", name, info.Mode(), err)
		}
	}
	for _, mode := range []fs.FileMode{0o644, 0o606, 0o660, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		err := memory.Update(t.Context(), "count", plusOne)
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "chmod") {
			t.Errorf("mode %04o: err = %v, want ErrInvalidConfig and what to do", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, memory, "count"); got != "1" {
		t.Errorf("count = %s, want 1", got)
	}
}

func TestFileWithoutItsFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "state")
	err := rotation.File(path).Update(t.Context(), "count", plusOne)
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("err = %v, want one that names the path once", err)
	}
}

func TestFileThatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 65<<20); err != nil {
		t.Fatal(err)
	}
	if err := rotation.File(path).Update(t.Context(), "count", plusOne); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("err = %v, want ErrInvalidConfig", err)
	}
}

func TestWaitingForTheFileEndsWithTheContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	for name, second := range map[string]func(*rotation.FileMemory) *rotation.FileMemory{
		"of this process":   func(m *rotation.FileMemory) *rotation.FileMemory { return m },
		"of another holder": func(*rotation.FileMemory) *rotation.FileMemory { return rotation.File(path) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				holder := rotation.File(path)
				held, release := make(chan struct{}), make(chan struct{})
				var done sync.WaitGroup
				done.Go(func() {
					if err := holder.Update(t.Context(), "held", func(old []byte) []byte {
						close(held)
						<-release
						return plusOne(old)
					}); err != nil {
						t.Error(err)
					}
				})
				<-held
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began := time.Now()
				err := second(holder).Update(ctx, "count", plusOne)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
					t.Errorf("err = %v after %s, want the deadline's after 1 s", err, time.Since(began))
				}
				close(release)
				done.Wait()
				if err := second(holder).Update(t.Context(), "count", func([]byte) []byte { return nil }); err != nil {
					t.Errorf("after the holder: %v", err)
				}
			})
		})
	}
}

func TestFileIsWrittenOnlyWhenSomethingChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	memory := rotation.File(path)
	stat := func() os.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if err := memory.Update(t.Context(), "absent", func([]byte) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a look made the file: %v", err)
	}
	if err := memory.Update(t.Context(), "count", plusOne); err != nil {
		t.Fatal(err)
	}
	before := stat()
	kept(t, memory, "count")
	if !os.SameFile(before, stat()) {
		t.Error("the file was written again with what it held")
	}
	if err := memory.Update(t.Context(), "count", func([]byte) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := kept(t, memory, "count"); got != "" {
		t.Errorf("what was removed is still there: %s", got)
	}
}

// TestFileStaysSmall: whatever a source and a server do, a scope's record has a
// bounded size and no credential in it.
func TestFileStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("secret-value-0")
		e := rotation.New[string](&rotation.Options{Memory: rotation.File(path), Observer: smartcred.Discard})
		for n := range unlessRaced(2000, 300) {
			w.mu.Lock()
			w.current = fmt.Sprint("secret-value-", n)
			w.mu.Unlock()
			w.accept()
			if n%50 == 0 {
				w.accept(w.current)
			}
			call := w.call()
			call.SingleUse = n%2 == 0
			_ = e.Do(t.Context(), call)
			time.Sleep(time.Minute)
		}
	})
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", len(raw))
	if len(raw) > 16<<10 {
		t.Errorf("the file has %d bytes", len(raw))
	}
	if values := bytes.ReplaceAll(raw, []byte("v-secret-value"), nil); bytes.Contains(values, []byte("secret-value")) {
		t.Error("the file holds a value")
	}
}

// TestCommandLineFromCron: 100 runs, a minute apart, with a credential that is
// wrong and a state file, cost no more than one process would.
func TestCommandLineFromCron(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("wrong")
		first := 0
		for n := range 100 {
			e := rotation.New[string](&rotation.Options{Memory: rotation.File(path), Observer: smartcred.Discard})
			if err := e.Do(t.Context(), w.call()); !errors.Is(err, errRefused) && !strings.Contains(err.Error(), "refused") {
				t.Errorf("err = %v", err)
			}
			if n == 59 {
				first = w.refused
			}
			time.Sleep(time.Minute)
		}
		t.Logf("%d refused requests in the first hour, %d in 100 minutes", first, w.refused)
		if first > 12 || w.refused > 24 {
			t.Errorf("%d refused requests in the first hour, %d in 100 minutes", first, w.refused)
		}
	})
}
