// Smartcred gets access tokens for SMART on FHIR servers from a terminal or a
// script, with secrets and keys that stay where they are kept.
//
//	smartcred keygen --alg ES384 --out key.pem > jwks.json
//	smartcred discover --base-url https://fhir.example.com/r4
//	smartcred assertion --config smartcred.yaml
//	smartcred token --config smartcred.yaml
//	smartcred jwks serve --config smartcred.yaml --listen 127.0.0.1:8080
//	smartcred rotation status --config smartcred.yaml
//	smartcred check --config smartcred.yaml --expires-within 30d
//	smartcred plugin check keyhouse --config smartcred.yaml
//
// Every command that needs a configuration reads a YAML file (--config), flags,
// or both; flags win. The keys of the file are the flags with underscores. None
// of them ever holds a secret, only a reference to where one is kept.
//
// The result goes to standard output, and only after success; everything else
// goes to standard error. The exit status says who failed:
//
//	0  done
//	1  check, rotation status or plugin check found something to act on
//	2  usage or configuration
//	3  the authorization server refused with an OAuth error, or did so lately
//	4  the secret source or signer failed
//	5  the authorization server could not be asked, or gave no OAuth answer
//
// A signal that ends a command gives 128 and its number, as shells have it.
package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/smartcred/smartcred/internal/interrupt"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := interrupt.Context(ctx)
	defer stop()

	a := &app{stdout: stdout, messages: &messages{w: stderr, left: maxLines}}
	root := a.root()
	root.SetArgs(kidLast(root, args))
	cmd, err := root.ExecuteContextC(ctx)
	a.messages.settle(err)
	if err == nil || err == errFound {
		return exitStatus(err)
	}
	var sig interrupt.Signal
	if errors.As(context.Cause(ctx), &sig) {
		a.messages.line("%s: %s", cmd.CommandPath(), sig)
		return sig.Status()
	}
	a.messages.failure(cmd.CommandPath(), err)
	return exitStatus(err)
}
