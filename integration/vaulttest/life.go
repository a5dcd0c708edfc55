package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

// bounded runs one step of the server's life.
func bounded(t testing.TB, step func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	if err := step(ctx); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server at once, as a crash would. Its address then refuses
// connections, until Restart.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	bounded(t, s.halt)
}

// Restart starts a stopped server with what it stored, at the same address, and unseals it.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	bounded(t, s.revive)
}

// RestartSealed is Restart without the unsealing.
func (s *Server) RestartSealed(t testing.TB) {
	t.Helper()
	bounded(t, func(ctx context.Context) error {
		if s.run != nil {
			return errors.New("vaulttest: restart: it is running")
		}
		return s.begin(ctx)
	})
}

// revive brings the server to where it serves, from wherever it is.
func (s *Server) revive(ctx context.Context) error {
	if s.run != nil {
		select {
		case <-s.run.ended():
			s.halt(ctx) // it is over
		default:
		}
	}
	if s.run == nil {
		if err := s.begin(ctx); err != nil {
			return err
		}
	}
	return s.unseal(ctx)
}

// Seal seals the server: it answers 503 to everything, until Unseal.
func (s *Server) Seal(t testing.TB) {
	t.Helper()
	bounded(t, func(ctx context.Context) error {
		c, err := s.client(s.RootToken)
		if err != nil {
			return err
		}
		if err := c.Sys().SealWithContext(ctx); err != nil {
			return fmt.Errorf("vaulttest: seal: %w", err)
		}
		return nil
	})
}

// Unseal unseals the server.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	bounded(t, s.unseal)
}

// A Snapshot is a copy of everything that a server stored.
type Snapshot struct{ dir string }

// Snapshot stops the server, copies its storage and starts it again.
func (s *Server) Snapshot(t testing.TB) *Snapshot {
	t.Helper()
	snap := &Snapshot{dir: filepath.Join(t.TempDir(), "storage")}
	s.stopped(t, func() error { return copyTree(snap.dir, s.storage()) })
	return snap
}

// Restore brings the server back to where it was at the snapshot: newer key
// versions, tokens and secrets are gone, and the next ones take their numbers.
// The server restarts.
func (s *Server) Restore(t testing.TB, snap *Snapshot) {
	t.Helper()
	s.stopped(t, func() error { return copyTree(s.storage(), snap.dir) })
}

func (s *Server) stopped(t testing.TB, f func() error) {
	t.Helper()
	bounded(t, func(ctx context.Context) error {
		if err := s.halt(ctx); err != nil {
			return err
		}
		if err := f(); err != nil {
			return fmt.Errorf("vaulttest: copy storage: %w", err)
		}
		return s.revive(ctx)
	})
}
