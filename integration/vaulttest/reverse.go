package vaulttest

import (
	"net"
	"testing"
)

// Listen returns a listener that the server reaches, for what Vault itself asks
// (a Kubernetes API, an OIDC provider), and the host:port by which it does. It
// ends with the test.
func (s *Server) Listen(t testing.TB) (l net.Listener, address string) {
	t.Helper()
	listen, host := s.way.here()
	l, err := net.Listen("tcp", net.JoinHostPort(listen, "0"))
	if err != nil {
		t.Fatalf("vaulttest: listen: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatalf("vaulttest: listen: %v", err)
	}
	return l, net.JoinHostPort(host, port)
}
