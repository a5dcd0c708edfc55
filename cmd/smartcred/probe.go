package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// A probed is what the server said to one request with one credential.
type probed struct {
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

const (
	probeAccepted = "accepted"
	probeRefused  = "refused"
	probeFailed   = "failed" // nobody knows: no answer, or another error
	probeSkipped  = "skipped"
)

// probe asks the server with each credential of the report, once. The error is
// of the first that failed otherwise than by a refusal.
func (a *app) probe(ctx context.Context, o *session, report *standing) (failed error) {
	var asked []*held
	for _, h := range report.Credentials {
		if h.secret.IsZero() || !o.isRevoked(h.Version) {
			asked = append(asked, h)
		} else {
			h.Probe = &probed{Result: probeSkipped, Detail: "it is revoked"}
		}
	}
	a.messages.line("probe: asking %s with %d credentials, one token request each; nothing of it is kept in the state", report.Server, len(asked))
	for _, h := range asked {
		err := o.ask(ctx, h)
		var no *provider.RefusedError
		switch {
		case err == nil:
			h.Probe = &probed{Result: probeAccepted}
		case errors.As(err, &no):
			h.Probe = &probed{Result: probeRefused, Detail: answerIn(err)}
		default:
			h.Probe = &probed{Result: probeFailed, Detail: plainText(err)}
			if failed == nil {
				failed = err
			}
		}
	}
	return failed
}

// answerIn is the server's answer in an error.
func answerIn(err error) (text string) {
	walk(err, func(err error) bool {
		if answer, ok := err.(*provider.TokenError); ok && text == "" {
			text = answer.Error()
		}
		return text == ""
	})
	return text
}

// ask makes one token request with one credential.
func (o *session) ask(ctx context.Context, h *held) error {
	cfg := o.providerConfig()
	quiet := &provider.RotationOptions{Previous: provider.PreviousNever, Observer: smartcred.Discard, AlsoRefusal: o.rotationOptions().AlsoRefusal}
	cfg.JWTOptions.Rotation, cfg.SecretOptions.Rotation = quiet, quiet
	if o.keys != nil {
		cfg.JWTOptions.KeySet = &signer.KeySetOptions{Observer: smartcred.Discard}
		cfg.Signer = onlyKey{o.keys, h.key}
	} else {
		cfg.SecretOptions.Cache = &secretsource.CacheOptions{Observer: smartcred.Discard}
		cfg.Secret = onlySecret{h.secret}
	}
	p, err := provider.New(cfg)
	if err != nil {
		return err
	}
	defer closing(p)
	client, err := o.client(once{p})
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Token(ctx)
	return err
}

// once is a provider that makes one request.
type once struct{ provider.Provider }

// Authenticate implements [provider.Provider].
func (p once) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	req.MaxSends = 1
	return p.Provider.Authenticate(ctx, req, send)
}

// onlySecret is a source with one secret.
type onlySecret struct{ secret secretsource.Secret }

// Lookup implements [secretsource.Source].
func (s onlySecret) Lookup(_ context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	if stage != secretsource.Current {
		return secretsource.Secret{}, fmt.Errorf("%s secret: %w", stage, smartcred.ErrNotFound)
	}
	return s.secret, nil
}

// onlyKey is a signer with one key of another's, whatever its time.
type onlyKey struct {
	keys *signer.KeySet
	key  signer.Key
}

// Keys implements [signer.Signer].
func (s onlyKey) Keys(context.Context) ([]signer.Key, error) {
	key := s.key
	key.NotBefore = time.Time{}
	return []signer.Key{key}, nil
}

// Sign implements [signer.Signer].
func (s onlyKey) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	return s.keys.Sign(ctx, key, input)
}
