package pluginmain

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

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

// lastAnswers is how long requests may take yet when the input has ended. The
// parent waits a second.
const lastAnswers = 500 * time.Millisecond

// Serve is Main with its input, output and end in the caller's hands. It returns
// when in ends, or when a line can't be read or written: requests under way have
// half a second to end by themselves, and what was opened is closed.
func Serve(ctx context.Context, p Plugin, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{plugin: p, out: out, failed: cancel, targets: map[string]*target{}}
	err := s.serve(ctx, in)
	late := time.AfterFunc(lastAnswers, cancel)
	<-s.requests.Shut()
	late.Stop()
	if closed := s.closeTargets(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("pluginmain: serve: %w", err)
	}
	return nil
}
