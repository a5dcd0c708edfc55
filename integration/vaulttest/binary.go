package vaulttest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// place returns where the Vault binary for goos is once it is built, and a key
// that names its content.
func place(goos string) (path, key string, err error) {
	source, err := serverSource()
	if err != nil {
		return "", "", err
	}
	if key, err = buildKey(source, goos); err != nil {
		return "", "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", fmt.Errorf("vaulttest: find cache folder: %w", err)
	}
	return filepath.Join(cache, "smartcred-test", "vault-"+key, "vault"), key, nil
}

// binary returns what place does, and builds the binary if it isn't there, once
// for all test binaries that ask at the same time.
func binary(ctx context.Context, goos string) (path, key string, err error) {
	path, key, err = place(goos)
	if err != nil {
		return "", "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, key, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", "", fmt.Errorf("vaulttest: make cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", "", fmt.Errorf("vaulttest: wait for another build of Vault: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, key, nil
	}
	return path, key, build(ctx, goos, path)
}

// build compiles the server to path, which appears when it is whole.
func build(ctx context.Context, goos, path string) error {
	source, err := serverSource()
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "vaulttest: building Vault from its module: once, about nine minutes of processor time")
	partial := path + ".partial"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", partial, ".")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOFLAGS=-buildvcs=false", "GOWORK=off")
	// The compiler's own processes may outlive it when ctx ends.
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		if ctx.Err() != nil {
			err = errors.New("the time for it ran out: run `go run ./vaulttest/prepare` in integration/ once, before the tests")
		}
		return fmt.Errorf("vaulttest: build Vault: %w\n%s", err, tail(out))
	}
	return os.Rename(partial, path)
}

// serverSource finds the folder of the server's module from the working
// directory, which in a test is the package's own.
func serverSource() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		source := filepath.Join(dir, "vaultserver")
		if _, err := os.Stat(filepath.Join(source, "go.mod")); err == nil {
			return source, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("vaulttest: find vaultserver/go.mod above %s: %w", wd, fs.ErrNotExist)
		}
	}
}

// buildKey names everything that decides about the binary's content.
func buildKey(source, goos string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), goos, runtime.GOARCH)
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", fmt.Errorf("vaulttest: read source of the server: %w", err)
		}
		fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(data))
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// tail returns the end of a program's output.
func tail(out []byte) []byte {
	const most = 4 << 10
	return out[max(0, len(out)-most):]
}
