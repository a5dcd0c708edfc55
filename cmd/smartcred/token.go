package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) token() *cobra.Command {
	var whole, verbose bool
	var out string
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print an access token",
		Long: `Token gets an access token by client_credentials and prints it, and nothing
else. With --json it prints the server's whole answer.`,
		Example: `  curl -H "Authorization: Bearer $(smartcred token --config smartcred.yaml)" \
      https://fhir.example.com/r4/Patient`,
	}
	cmd.Flags().BoolVar(&whole, "json", false, "print the server's whole answer")
	cmd.Flags().StringVar(&out, "out", "", "write to `file` instead, mode 0600, replacing it in one step")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "say on standard error what was tried")
	cmd.PreRun = func(*cobra.Command, []string) { a.messages.verbose = verbose }
	a.withConfiguration(cmd, needServer|needClient|needScopes|needMethod, func(ctx context.Context, o *session) (err error) {
		write := a.print
		if cmd.Flags().Changed("out") {
			// Before the request: a token that can't be stored is not asked for.
			file, err := newOutFile(out)
			if err != nil {
				return err
			}
			defer file.discard()
			write = file.commit
		}
		if verbose {
			o.trace(a.messages)
		}
		answer, err := o.requestToken(ctx, whole)
		if err != nil {
			return err
		}
		return write(append(answer, '\n'))
	})
	return cmd
}

// requestToken returns an access token, or the whole answer that held it.
func (o *session) requestToken(ctx context.Context, whole bool) ([]byte, error) {
	client, err := o.client(o.provider)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	token, err := client.Token(ctx)
	switch {
	case err != nil:
		return nil, err
	case whole:
		return token.Answer(), nil
	default:
		return []byte(token.AccessToken()), nil
	}
}

// trace makes the session say what it does.
func (o *session) trace(m *messages) {
	t := &tracer{messages: m, base: o.transport, provider: o.provider}
	o.transport, o.provider = t, t
}
