package pluginmain

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// A Plugin says what the program can be.
type Plugin struct {
	// Signer opens a signer; nil: the program is none.
	Signer signer.Opener
	// Source opens a secret source; nil: the program is none.
	Source secretsource.Opener
}

// Main serves p on standard input and output until the input ends, then ends the
// program.
func Main(p Plugin) {
	stdout := os.Stdout
	os.Stdout = os.Stderr // a stray print must not be an answer
	ctx, cancel := context.WithCancel(context.Background())
	err := Serve(ctx, p, os.Stdin, stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Serve is Main with its input, output and end in the caller's hands. It returns
// when in ends, or when a line can't be read or written, after the requests under
// way were cancelled and what they opened was closed.
func Serve(ctx context.Context, p Plugin, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{plugin: p, out: out, failed: cancel, targets: map[string]*target{}}
	err := s.serve(ctx, in)
	cancel()
	s.requests.Wait()
	if closed := s.closeTargets(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("pluginmain: serve: %w", err)
	}
	return nil
}
