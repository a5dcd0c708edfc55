package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// A session is a configuration that is open for use.
type session struct {
	*settings
	observer  smartcred.Observer
	deadline  time.Time
	transport http.RoundTripper
	keys      *signer.KeySet      // where the command needs the signer
	secrets   *secretsource.Cache // where it needs the secret
	provider  provider.Provider   // where the command authenticates

	memory         rotation.Memory // nil without a state file
	fingerprintKey []byte
}

// open loads the configuration and opens what the command needs, until
// timeout has passed. What is wrong with the configuration is said all at once,
// also what only opening shows, and what the command found by itself.
func (c *configuration) open(ctx context.Context, needs need, observer smartcred.Observer, found ...error) (*session, error) {
	s, wrong, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	wrong.add(append(s.check(needs), found...)...)

	o := &session{settings: s, observer: observer, deadline: time.Now().Add(s.timeout)}
	ctx, cancel := context.WithDeadline(ctx, o.deadline)
	defer cancel()
	var failed error // of a backend: not the configuration's fault
	for _, step := range []func(context.Context, need) error{o.openTransport, o.openState, o.openKeys, o.openSecrets, o.openProvider} {
		switch err := step(ctx, needs); {
		case len(configProblems(err)) > 0:
			wrong.add(err)
		default:
			failed = errors.Join(failed, err)
		}
	}
	if err := errors.Join(wrong.problems...); err != nil {
		failed = err
	}
	if failed != nil {
		o.Close()
		return nil, failed
	}
	return o, nil
}

// Close closes what open opened. There is nothing that its errors could change.
func (o *session) Close() {
	if o.keys != nil {
		_ = o.keys.Close()
	}
	if o.secrets != nil {
		_ = o.secrets.Close()
	}
	if c, ok := o.provider.(io.Closer); ok {
		_ = c.Close()
	}
}

// findings collects what is wrong with a configuration. Once an option was
// found fault with, later complaints about it only follow from the first.
type findings struct {
	problems []error
	options  map[string]bool
}

// add takes the ConfigErrors of one stage of checking.
func (f *findings) add(stage ...error) {
	found := configProblems(errors.Join(stage...))
	for _, problem := range found {
		if !f.options[keyOf(problem)] {
			f.problems = append(f.problems, problem)
		}
	}
	if f.options == nil {
		f.options = map[string]bool{}
	}
	for _, problem := range found {
		f.options[keyOf(problem)] = true
	}
}

// keyOf is the key that a problem is about, whether it was set as key or flag.
func keyOf(problem *smartcred.ConfigError) string {
	return strings.ReplaceAll(strings.TrimPrefix(problem.Option, "--"), "-", "_")
}

func (o *session) openTransport(ctx context.Context, _ need) error {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes = 64 << 10
	o.transport = t
	if o.caFile == "" {
		return nil
	}
	pem, err := securefile.Read(ctx, o.caFile, securefile.Options{})
	if err != nil {
		return &smartcred.ConfigError{Option: "ca_file", Problem: "can't be read", Err: err}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without any
	}
	if !roots.AppendCertsFromPEM(pem) {
		return &smartcred.ConfigError{Option: "ca_file", Problem: "has no certificate in PEM: -----BEGIN CERTIFICATE-----"}
	}
	t.TLSClientConfig.RootCAs = roots
	return nil
}

func (o *session) openKeys(ctx context.Context, needs need) error {
	signs := needs&(needMethod|needAssertion) != 0 && o.method() == provider.MethodPrivateKeyJWT
	if o.settings.signer == "" || !signs && needs&(needSigner|needNewKey|needActivate) == 0 {
		return nil
	}
	s, err := signer.Open(ctx, o.settings.signer, &signer.OpenOptions{
		OpenOptions: o.openOptions("signer"), Algorithm: o.algorithm, PublishFor: o.publication(),
	})
	if err != nil {
		return openError("signer", "open signer", err)
	}
	o.keys, err = signer.NewKeySet(s, &signer.KeySetOptions{
		KeyID:                o.keyID,
		AllowedKIDs:          o.allowedKIDs,
		RequireNonExportable: o.requireNonExportable,
		Revoked:              o.revoked,
		WithoutPrevious:      o.previous == previousNever,
		PublishFor:           o.publishFor,
		Timeout:              o.timeout,
		Backend:              withoutQuery(o.settings.signer),
		Observer:             o.observer,
	})
	if c, ok := s.(io.Closer); ok && err != nil {
		_ = c.Close()
	}
	return err
}

// openSecrets opens the secret's source, behind the cache that all who look it
// up share.
func (o *session) openSecrets(ctx context.Context, needs need) error {
	m := o.method()
	if needs&(needMethod|needRevoke) == 0 || m != provider.MethodClientSecretBasic && m != provider.MethodClientSecretPost || len(o.secret) == 0 {
		return nil
	}
	source, err := o.openSecret(ctx)
	if err != nil {
		return err
	}
	o.secrets = secretsource.NewCache(source, &secretsource.CacheOptions{
		Timeout: o.timeout, Name: withoutQuery(o.secret[0]), Observer: o.observer,
	})
	return nil
}

func (o *session) openProvider(_ context.Context, needs need) (err error) {
	if needs&(needMethod|needAssertion) == 0 {
		return nil
	}
	cfg := o.providerConfig()
	switch {
	case cfg.Method == provider.MethodPrivateKeyJWT && o.keys != nil:
		cfg.Signer = o.keys
	case cfg.Method == provider.MethodNone:
	case o.secrets != nil:
		cfg.Secret = o.secrets
	default:
		return nil // what kept it from opening is said
	}
	cfg.JWTOptions.Rotation, cfg.SecretOptions.Rotation = o.rotationOptions(), o.rotationOptions()
	o.provider, err = provider.New(cfg)
	return err
}

// providerConfig is how the settings say that credentials are sent, without the
// credentials.
func (s *settings) providerConfig() provider.Config {
	return provider.Config{
		Method: s.method(),
		JWTOptions: &provider.PrivateKeyJWTOptions{
			JKU: s.jku(), Audience: s.audience, AudienceScheme: s.audienceScheme, Lifetime: s.assertionLifetime,
		},
		SecretOptions: &provider.SecretOptions{Encoding: s.secretEncoding},
	}
}

// openSecret opens every URI of secret, and says what is wrong with each.
func (o *session) openSecret(ctx context.Context) (secretsource.Source, error) {
	var sources []secretsource.Source
	var problems []error
	opts := o.openOptions("secret")
	for i, uri := range o.secret {
		name := "secret"
		if len(o.secret) > 1 {
			name = fmt.Sprintf("secret[%d]", i)
		}
		source, err := secretsource.Open(ctx, uri, &opts)
		if err != nil {
			problems = append(problems, openError(name, "open secret source", err))
			continue
		}
		sources = append(sources, source)
	}
	all := secretsource.List(sources...)
	if len(problems) > 0 || len(sources) == 0 {
		_ = all.(io.Closer).Close()
		return nil, errors.Join(problems...)
	}
	if len(sources) == 1 {
		return sources[0], nil
	}
	return all, nil
}

// openError tells a URI that is wrong from a backend that failed.
func openError(option, op string, err error) error {
	if errors.Is(err, smartcred.ErrInvalidConfig) || errors.Is(err, smartcred.ErrUnsupportedAlgorithm) {
		return &smartcred.ConfigError{Option: option, Problem: "can't be used", Err: err}
	}
	return &provider.CredentialError{Op: op, Err: err}
}

func (o *session) openOptions(key string) secretsource.OpenOptions {
	return secretsource.OpenOptions{
		Dir:                   o.dirs[key],
		FingerprintKey:        o.fingerprintKey,
		InsecurePermissions:   o.insecurePermissions,
		InsecureBackendTLS:    o.insecureBackendTLS,
		AllowInsecureLoopback: o.allowInsecureLoopback,
		Plugins:               o.allowedPlugins(),
		PathPlugins:           o.allowPathPlugins,
		Observer:              o.observer,
	}
}

// withoutQuery names a backend for events: options of a URI can be secret.
func withoutQuery(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return uri
}
