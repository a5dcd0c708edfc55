package vaulttest

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/vault/api"
)

// Launch starts a Vault for a program that is no test, such as a benchmark. Close
// it. [ErrNone] says that the environment asks for no Vault.
func Launch(ctx context.Context) (*Server, error) {
	w, err := choose(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "smartcred-vault-")
	if err != nil {
		return nil, fmt.Errorf("vaulttest: launch: %w", err)
	}
	s, err := newServer(ctx, w, dir)
	if s == nil {
		_ = os.RemoveAll(dir)
		return nil, err
	}
	s.ownDir = true
	if err != nil {
		_ = s.close(context.WithoutCancel(ctx))
		return nil, err
	}
	return s, nil
}

// Close ends a server that [Launch] started, and removes what it stored.
func (s *Server) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return s.close(ctx)
}

// NewClient is [Server.Client] for programs that are no tests.
func (s *Server) NewClient(token string) (*api.Client, error) { return s.client(token) }
