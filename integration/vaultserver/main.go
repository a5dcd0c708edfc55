// Command vaultserver is HashiCorp Vault's own command line, built from the Go
// module that HashiCorp publishes. The integration tests run it as the real
// server, as a process or in a container, where no image can be pulled.
//
// Its module is apart from all others, so that the versions Vault needs bind
// nobody else, and nothing imports it. Vault is under the Business Source
// License: it serves the tests and is part of no release.
package main

import (
	"io"
	"os"

	"github.com/hashicorp/vault/command"
)

func main() {
	// Whoever started it holds the other end of standard input, so that no
	// server outlives a test binary that panics or is killed.
	if os.Getenv("VAULTSERVER_ENDS_WITH_STDIN") != "" {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	}
	os.Exit(command.Run(os.Args[1:]))
}
