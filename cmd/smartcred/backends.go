package main

// The backends that the command has in: each registers its URI scheme.
import (
	_ "github.com/smartcred/smartcred/plugins/awskms"
	_ "github.com/smartcred/smartcred/plugins/awssecretsmanager"
	_ "github.com/smartcred/smartcred/plugins/pkcs11"
	_ "github.com/smartcred/smartcred/plugins/vaultkv"
	_ "github.com/smartcred/smartcred/plugins/vaulttransit"
)
