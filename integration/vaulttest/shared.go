package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

var shared struct {
	main   bool // Main runs the tests
	once   sync.Once
	mu     sync.Mutex
	server *Server
	err    error
}

// Shared returns the server that all tests of a package use, each with mounts
// and policies of its own. It is started by the first that asks, brought back
// to life if a test left it stopped or sealed, and ended by [Main]. Tests that
// stop or seal it must not run in parallel with others.
func Shared(t testing.TB) *Server {
	t.Helper()
	w := chooseOrSkip(t)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	shared.once.Do(func() {
		if !shared.main {
			shared.err = errors.New("vaulttest: Shared needs a TestMain that calls vaulttest.Main, which ends the server")
			return
		}
		var dir string
		if dir, shared.err = os.MkdirTemp("", "smartcred-vault-"); shared.err == nil {
			shared.server, shared.err = newServer(ctx, w, dir)
		}
		if shared.server != nil {
			shared.server.ownDir = true
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if err := shared.server.revive(ctx); err != nil {
		t.Fatal(err)
	}
	return shared.server
}

// Main runs a package's tests, ends the server that [Shared] started, and exits.
func Main(m *testing.M) {
	shared.main = true
	code := m.Run()
	if shared.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := shared.server.close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}
