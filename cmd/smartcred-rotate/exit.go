package main

import (
	"errors"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/provider"
)

// The exit statuses are those of smartcred. They are a contract with scripts.
const (
	exitDone    = 0
	exitUsage   = 2
	exitRefused = 3
	exitBackend = 4
	exitServer  = 5
)

// exitStatus says who failed.
func exitStatus(err error) int {
	var store *secretrotator.StoreError
	var token *provider.CredentialError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, secretrotator.ErrRefused):
		return exitRefused
	case errors.Is(err, smartcred.ErrInvalidConfig):
		return exitUsage
	case errors.As(err, &store), errors.As(err, &token):
		return exitBackend
	default:
		return exitServer
	}
}
