package main

import (
	"context"

	"github.com/spf13/cobra"
)

func (a *app) rotation() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotation",
		Short: "Say how a rotation stands, and do its steps",
		Long: `Rotation says which secret or key is in force at a server and what to do next,
and does the steps of a rotation of keys in files:

  new-key    makes the next key: it is published, and not used yet
  activate   makes it the one that signs; the one before stays as previous
  revoke     takes a key or secret out of use at once

A secret is rotated where it is kept: write the new one there, and leave the
old one as previous until the server takes the new one.`,
		Args: unknownCommand,
		RunE: whichCommand,
	}
	cmd.AddCommand(a.rotationStatus(), a.newKey(), a.activate(), a.revoke(), a.reset())
	return cmd
}

func (a *app) reset() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Forget refusals, back-off and budget",
		Long: `Reset makes the state file forget what it knows about this client at this
server: after it no refusal, back-off or spent budget holds anything up. Processes
that share the file learn of it within a minute.`,
		Example: `  smartcred rotation reset --config smartcred.yaml`,
	}
	a.withConfiguration(cmd, needServer|needClient|needState, func(ctx context.Context, o *session) error {
		o.learned().Reset(ctx, o.scope())
		a.messages.line("forgotten: what was known about client %s at %s", o.clientID, o.scope().Server)
		return nil
	})
	return cmd
}
