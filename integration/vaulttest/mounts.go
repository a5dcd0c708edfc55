package vaulttest

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// Transit returns the path of a new transit mount, which goes with the test.
func (s *Server) Transit(t testing.TB) string {
	t.Helper()
	return s.mount(t, &api.MountInput{Type: "transit"})
}

// KV returns the path of a new KV mount of version 1 or 2, which goes with the test.
func (s *Server) KV(t testing.TB, version int) string {
	t.Helper()
	path := s.mount(t, &api.MountInput{Type: "kv", Options: map[string]string{"version": fmt.Sprint(version)}})
	if version == 2 {
		// A new mount of version 2 refuses everything for a moment.
		s.poll(t, func(c *api.Client) error {
			_, err := c.Logical().ReadWithContext(t.Context(), path+"/config")
			return err
		})
	}
	return path
}

func (s *Server) mount(t testing.TB, in *api.MountInput) string {
	t.Helper()
	path := fmt.Sprintf("%s-%d", in.Type, s.count.next())
	s.must(t, func(c *api.Client) error { return c.Sys().MountWithContext(t.Context(), path, in) })
	s.atEnd(t, func(c *api.Client) error { return c.Sys().Unmount(path) })
	return path
}

// Auth returns the path, below auth/, of a new mount of an auth method
// (approle, jwt, kubernetes), which goes with the test.
func (s *Server) Auth(t testing.TB, method string) string {
	t.Helper()
	path := fmt.Sprintf("%s-%d", method, s.count.next())
	s.must(t, func(c *api.Client) error {
		return c.Sys().EnableAuthWithOptionsWithContext(t.Context(), path, &api.EnableAuthOptions{Type: method})
	})
	s.atEnd(t, func(c *api.Client) error { return c.Sys().DisableAuth(path) })
	return path
}

// Policy returns the name of a new policy, in HCL, which goes with the test.
func (s *Server) Policy(t testing.TB, hcl string) string {
	t.Helper()
	name := fmt.Sprintf("policy-%d", s.count.next())
	s.must(t, func(c *api.Client) error { return c.Sys().PutPolicyWithContext(t.Context(), name, hcl) })
	s.atEnd(t, func(c *api.Client) error { return c.Sys().DeletePolicy(name) })
	return name
}

// Token returns a token that may do what the policy says, for an hour. Others,
// with a short life or a number of uses, are made with the root client.
func (s *Server) Token(t testing.TB, hcl string) string {
	t.Helper()
	policy := s.Policy(t, hcl)
	var token string
	s.must(t, func(c *api.Client) error {
		secret, err := c.Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{
			Policies: []string{policy}, TTL: time.Hour.String(), NoDefaultPolicy: true,
		})
		if err != nil {
			return err
		}
		token = secret.Auth.ClientToken
		return nil
	})
	return token
}

// Write writes to a path with the root token, and returns the answer's data.
func (s *Server) Write(t testing.TB, path string, data map[string]any) map[string]any {
	t.Helper()
	var answer map[string]any
	s.must(t, func(c *api.Client) error {
		secret, err := c.Logical().WriteWithContext(t.Context(), path, data)
		if secret != nil {
			answer = secret.Data
		}
		return err
	})
	return answer
}

func (s *Server) must(t testing.TB, f func(*api.Client) error) {
	t.Helper()
	if err := f(s.Root(t)); err != nil {
		t.Fatalf("vaulttest: %v", err)
	}
}

func (s *Server) poll(t testing.TB, f func(*api.Client) error) {
	t.Helper()
	c := s.Root(t)
	if err := until(t.Context(), s.run, func() error { return f(c) }); err != nil {
		t.Fatalf("vaulttest: %v", err)
	}
}

// atEnd tidies up, where the server is still there: one test's leftovers are
// no other test's trouble, since all names differ.
func (s *Server) atEnd(t testing.TB, f func(*api.Client) error) {
	c := s.Root(t)
	c.SetClientTimeout(5 * time.Second)
	t.Cleanup(func() { _ = f(c) })
}
