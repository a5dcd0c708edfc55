package vaulttest

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestBuildKey(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key := func(goos string) string {
		t.Helper()
		k, err := buildKey(dir, goos)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key("linux")
	if key("linux") != first {
		t.Error("the key changes by itself")
	}
	if key("plan9") == first {
		t.Error("the key is the same for another system")
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), []byte("another version"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key("linux") == first {
		t.Error("the key is the same with another go.sum")
	}
}

func TestOneBuildAtATime(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // no lock there
	}
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lock(ctx, path); err != context.Canceled {
		t.Errorf("locked twice: %v", err)
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestCopyTreeReplaces(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write := func(path string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(from, "a", "b"))
	write(filepath.Join(to, "old"))
	if err := copyTree(to, from); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "a", "b")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(to, "old")); !os.IsNotExist(err) {
		t.Errorf("what was there before: %v", err)
	}
}
