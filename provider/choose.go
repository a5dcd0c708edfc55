package provider

import (
	"fmt"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// Config is what [New] chooses from.
type Config struct {
	// Method is the authentication method; empty: private_key_jwt if there is a
	// Signer, else client_secret_basic if there is a Secret. Neither is an
	// error: a public client says [MethodNone].
	Method Method
	// Signer signs for private_key_jwt.
	Signer signer.Signer
	// Secret is looked up for client_secret_basic and client_secret_post.
	Secret secretsource.Source
	// SecretOptions and JWTOptions go to the provider chosen.
	SecretOptions *SecretOptions
	JWTOptions    *PrivateKeyJWTOptions
}

// New returns the provider that cfg asks for. It never falls back from a key to
// a secret: what is chosen here stays.
func New(cfg Config) (Provider, error) {
	method := cfg.Method
	if method == "" {
		switch {
		case cfg.Signer != nil:
			method = MethodPrivateKeyJWT
		case cfg.Secret != nil:
			method = MethodClientSecretBasic
		default:
			return nil, &smartcred.ConfigError{Option: "auth_method", Problem: "there is neither a signer nor a secret: set one, or auth_method none for a public client"}
		}
	}
	switch method {
	case MethodNone:
		return Public{}, nil
	case MethodPrivateKeyJWT:
		if cfg.Signer == nil {
			return nil, &smartcred.ConfigError{Option: "signer", Problem: "is missing, which auth_method private_key_jwt needs"}
		}
		return NewPrivateKeyJWT(cfg.Signer, cfg.JWTOptions)
	case MethodClientSecretBasic, MethodClientSecretPost:
		if cfg.Secret == nil {
			return nil, &smartcred.ConfigError{Option: "secret", Problem: fmt.Sprintf("is missing, which auth_method %s needs", method)}
		}
		if method == MethodClientSecretPost {
			return NewClientSecretPost(cfg.Secret, cfg.SecretOptions)
		}
		return NewClientSecretBasic(cfg.Secret, cfg.SecretOptions)
	default:
		return nil, &smartcred.ConfigError{Option: "auth_method", Problem: fmt.Sprintf("unknown method %q: use none, client_secret_basic, client_secret_post or private_key_jwt", method)}
	}
}
