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
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// A session is a configuration that is open for use.
type session struct {
	*settings
	observer  smartcred.Observer
	deadline  time.Time
	transport http.RoundTripper
	keys      *signer.KeySet    // where the command needs the signer
	provider  provider.Provider // where the command authenticates
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
	for _, step := range []func(context.Context, need) error{o.openTransport, o.openKeys, o.openProvider} {
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
	if o.settings.signer == "" || !signs && needs&needSigner == 0 {
		return nil
	}
	s, err := signer.Open(ctx, o.settings.signer, &signer.OpenOptions{OpenOptions: o.openOptions("signer"), Algorithm: o.algorithm})
	if err != nil {
		return openError("signer", "open signer", err)
	}
	o.keys, err = signer.NewKeySet(s, &signer.KeySetOptions{
		KeyID:                o.keyID,
		AllowedKIDs:          o.allowedKIDs,
		RequireNonExportable: o.requireNonExportable,
		Revoked:              o.revoked,
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

func (o *session) openProvider(ctx context.Context, needs need) error {
	if needs&(needMethod|needAssertion) == 0 {
		return nil
	}
	cfg := provider.Config{
		Method: o.method(),
		JWTOptions: &provider.PrivateKeyJWTOptions{
			JKU: o.jku(), Audience: o.audience, AudienceScheme: o.audienceScheme, Lifetime: o.assertionLifetime,
		},
	}
	switch cfg.Method {
	case provider.MethodPrivateKeyJWT:
		if o.keys == nil {
			return nil // what kept it from opening is said
		}
		cfg.Signer = o.keys
	case provider.MethodClientSecretBasic, provider.MethodClientSecretPost:
		source, err := o.openSecret(ctx)
		if err != nil {
			return err
		}
		cfg.Secret = source
		cfg.SecretOptions = &provider.SecretOptions{
			Encoding: o.secretEncoding,
			Cache:    &secretsource.CacheOptions{Timeout: o.timeout, Name: withoutQuery(o.secret[0]), Observer: o.observer},
		}
	}
	var err error
	o.provider, err = provider.New(cfg)
	return err
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
		InsecurePermissions:   o.insecurePermissions,
		InsecureBackendTLS:    o.insecureBackendTLS,
		AllowInsecureLoopback: o.allowInsecureLoopback,
		Observer:              o.observer,
	}
}

// withoutQuery names a backend for events: options of a URI can be secret.
func withoutQuery(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return uri
}

// clientConfig is what the settings say of the SMART client.
func (s *settings) clientConfig() smartauth.Config {
	return smartauth.Config{
		BaseURL:               s.baseURL,
		ClientID:              s.clientID,
		Scopes:                s.scopes,
		TokenEndpoint:         s.tokenEndpoint,
		AuthorizationEndpoint: s.authorizationEndpoint,
		Issuer:                s.issuer,
		AllowedAuthHosts:      s.allowedAuthHosts,
		RedirectURL:           s.redirectURL,
		IDTokenAlgorithms:     s.idTokenAlgorithms,
		TokenParams:           s.tokenParams,
		Timeout:               s.timeout,
		AllowInsecureLoopback: s.allowInsecureLoopback,
	}
}

// client returns a SMART client that authenticates with p.
func (o *session) client(p provider.Provider) (*smartauth.Client, error) {
	cfg := o.clientConfig()
	cfg.Provider = p
	cfg.HTTPClient = &http.Client{Transport: o.transport}
	cfg.Observer = o.observer
	cfg.Timeout = max(time.Until(o.deadline), time.Nanosecond)
	cfg.UserAgent = "smartcred/" + version()
	return smartauth.NewClient(cfg)
}
