package vaulttest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// patience bounds every step of a server's life. Machines that build at the
// same time are slow.
const patience = 2 * time.Minute

// A Server is one Vault, initialized and unsealed. Its methods that take a
// testing.TB end the test when they fail. Requests may be concurrent; changes
// of the server's life (Stop, Restart, Seal, Restore) are one at a time.
type Server struct {
	Address   string // https://127.0.0.1:port, the same for life
	CACert    string // path of the authority's certificate, as VAULT_CACERT
	RootToken string

	*node
	ca        *authority
	unsealKey string
	run       running // nil while stopped
	ownDir    bool
	count     *counter // of mounts and policies
}

// Start starts a Vault of the test's own, on file storage, which ends with the
// test. See [Shared] for one that serves a package.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, chooseOrSkip(t))
}

func start(t testing.TB, w way) *Server {
	t.Helper()
	s, err := newServer(t.Context(), w, t.TempDir())
	if s != nil {
		endWith(t, s.close)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// chooseOrSkip skips the test only where the environment asks for that.
func chooseOrSkip(t testing.TB) way {
	t.Helper()
	ctx := t.Context()
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if at, ok := d.Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, at.Add(-5*time.Second))
			defer cancel()
		}
	}
	w, err := choose(ctx)
	if errors.Is(err, ErrNone) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// endWith has f called at the test's end, with a context that still lives then.
func endWith(t testing.TB, f func(context.Context) error) {
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if err := f(ctx); err != nil {
			t.Error(err)
		}
	})
}

// newServer returns the server also with an error, to be closed.
func newServer(ctx context.Context, w way, dir string) (*Server, error) {
	const name = "vault"
	ca, err := newAuthority(dir, []string{name})
	if err != nil {
		return nil, err
	}
	n, err := newNode(dir, name, w)
	if err != nil {
		return nil, err
	}
	s := serve(n, ca)
	if err := n.configure(ca, nil); err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.begin(ctx); err != nil {
		return s, err
	}
	return s, s.found(ctx)
}

func serve(n *node, ca *authority) *Server {
	return &Server{Address: n.address(), CACert: ca.caFile, node: n, ca: ca, count: &counter{}}
}

// begin starts the node and waits until it answers, sealed.
func (s *Server) begin(ctx context.Context) error {
	run, err := s.way.start(ctx, s.node)
	if err != nil {
		return s.fail(err)
	}
	s.run = run
	c, err := s.client("")
	if err != nil {
		return err
	}
	err = until(ctx, run, func() error {
		_, err := c.Sys().SealStatusWithContext(ctx)
		return err
	})
	if err != nil {
		return s.fail(fmt.Errorf("vaulttest: wait for Vault: %w", err))
	}
	return nil
}

// found initializes a new Vault, unseals it and turns the audit log on.
func (s *Server) found(ctx context.Context) error {
	c, err := s.client("")
	if err != nil {
		return err
	}
	init, err := c.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
	if err != nil {
		return s.fail(fmt.Errorf("vaulttest: initialize: %w", err))
	}
	s.RootToken, s.unsealKey = init.RootToken, init.Keys[0]
	if err := s.unseal(ctx); err != nil {
		return err
	}
	if c, err = s.client(s.RootToken); err != nil {
		return err
	}
	err = c.Sys().EnableAuditWithOptionsWithContext(ctx, "file", &api.EnableAuditOptions{
		Type:    "file",
		Options: map[string]string{"file_path": s.seen(s.audit()), "elide_list_responses": "true"},
	})
	if err != nil {
		return s.fail(fmt.Errorf("vaulttest: turn audit log on: %w", err))
	}
	return nil
}

// unseal returns when the node serves requests, itself or as a standby.
func (s *Server) unseal(ctx context.Context) error {
	c, err := s.client("")
	if err != nil {
		return err
	}
	// A node that is still joining a cluster takes the key, and unseals later: a second
	// one would make Vault unseal twice, and be active twice after a step-down.
	taken := false
	err = until(ctx, s.run, func() error {
		read := c.Sys().SealStatusWithContext
		if !taken {
			read = func(ctx context.Context) (*api.SealStatusResponse, error) {
				return c.Sys().UnsealWithContext(ctx, s.unsealKey)
			}
		}
		status, err := read(ctx)
		if err != nil {
			return err
		}
		if taken = true; status.Sealed {
			return errors.New("it is sealed")
		}
		return nil
	})
	if err == nil {
		err = s.serving(ctx)
	}
	if err != nil {
		return s.fail(fmt.Errorf("vaulttest: unseal: %w", err))
	}
	return nil
}

// serving waits until a request is answered, by the node itself or by the
// active one that it forwards to.
func (s *Server) serving(ctx context.Context) error {
	c, err := s.client(s.RootToken)
	if err != nil {
		return err
	}
	return until(ctx, s.run, func() error {
		_, err := c.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
}

// client returns a client that knows nothing of the environment and retries nothing.
func (s *Server) client(token string) (*api.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{RootCAs: s.ca.pool}
	c, err := api.NewClient(&api.Config{
		Address:    s.Address,
		HttpClient: &http.Client{Transport: transport},
		Timeout:    time.Minute,
		MaxRetries: 0,
	})
	if err != nil {
		return nil, fmt.Errorf("vaulttest: make client: %w", err)
	}
	c.ClearNamespace()
	c.SetToken(token)
	return c, nil
}

// Client returns a client with the token, without retries and free of the environment.
func (s *Server) Client(t testing.TB, token string) *api.Client {
	t.Helper()
	c, err := s.client(token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloneConfig().HttpClient.CloseIdleConnections() })
	return c
}

// Root returns a client that may do anything.
func (s *Server) Root(t testing.TB) *api.Client {
	t.Helper()
	return s.Client(t, s.RootToken)
}

// Setenv sets the environment that Vault's clients read: this server, its
// authority and the token, which may be empty.
func (s *Server) Setenv(t testing.TB, token string) {
	t.Helper()
	t.Setenv("VAULT_ADDR", s.Address)
	t.Setenv("VAULT_CACERT", s.CACert)
	t.Setenv("VAULT_TOKEN", token)
}

// close ends the server for good.
func (s *Server) close(ctx context.Context) error {
	err := s.halt(ctx)
	if s.ownDir {
		err = errors.Join(err, os.RemoveAll(s.root))
	}
	return err
}

func (s *Server) halt(ctx context.Context) error {
	if s.run == nil {
		return nil
	}
	run := s.run
	s.run = nil
	return run.stop(ctx)
}

// A counter numbers what one server is asked to make.
type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}
