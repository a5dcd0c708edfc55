// Package vaulttest gives tests a real HashiCorp Vault, and what can go wrong
// between it and its clients.
//
//	func TestMain(m *testing.M) { vaulttest.Main(m) }
//
//	func TestSign(t *testing.T) {
//		s := vaulttest.Shared(t)             // one server for the package
//		mount := s.Transit(t)                // a mount of this test's own
//		token := s.Token(t, `path "`+mount+`/sign/*" { capabilities = ["update"] }`)
//		client := s.Client(t, token)
//		...
//	}
//
// [Start] makes a server of the test's own and [StartCluster] one with
// standbys. A server listens on TLS under a certificate authority of its own,
// keeps its state over [Server.Stop] and [Server.Restart], and writes an audit
// log. [NewProxy] breaks connections in front of a server, [NewFront] counts
// requests and breaks answers.
//
// # Which Vault
//
// Where Docker answers the server is a container, through testcontainers-go,
// of the public image [PublicImage]; where that can't be pulled, of an image
// that holds nothing but the binary built from the module in vaultserver/.
// Without Docker the same binary runs as a process. It is built once, which
// takes minutes, and cached in the user's cache folder:
//
//	go run ./vaulttest/prepare
//
// does that ahead of the tests and says which way they will take. The
// environment decides otherwise:
//
//	SMARTCRED_TEST_VAULT         container or process: that way or failure; none: the tests are skipped
//	SMARTCRED_TEST_VAULT_IMAGE   an image in place of the public one
//	SMARTCRED_TEST_VAULT_REPORT  a file that gets a line for each test binary: which way it took
//
// No server outlives the test binary: it ends with its standard input, whose
// other end the test binary holds, so a panic or a kill ends it too.
// Testcontainers' own reaper, a second image, is therefore turned off.
package vaulttest
