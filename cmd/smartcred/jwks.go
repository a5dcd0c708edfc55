package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

func (a *app) jwks() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jwks",
		Short: "Print the public JWK Set, or serve it",
		Long: `Jwks prints the client's public JWK Set, for registering it at a server: the
keys that may sign now and those published ahead. It holds nothing secret.`,
		Example: `  smartcred jwks --signer file:key.pem
  smartcred jwks serve --signer file:key.pem --listen 127.0.0.1:8080`,
	}
	a.withConfiguration(cmd, needSigner, func(ctx context.Context, o *session) error {
		keys, err := o.published(ctx)
		if err != nil {
			return err
		}
		set, err := signer.PublicJWKSet(keys)
		if err != nil {
			return err
		}
		return a.printJSON(set)
	})
	cmd.AddCommand(a.serve())
	return cmd
}

func (o *session) published(ctx context.Context) ([]signer.Key, error) {
	keys, err := o.keys.Published(ctx)
	if err != nil {
		return nil, &provider.CredentialError{Op: "list keys", Err: err}
	}
	return keys, nil
}
