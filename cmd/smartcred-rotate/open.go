package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/internal/securefile"
	_ "github.com/smartcred/smartcred/plugins/awssecretsmanager" // where the hook's token may be kept
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
)

// open makes a Rotator of the settings, and what closes it. What is wrong is said
// all at once.
func (s *settings) open(ctx context.Context, logger *slog.Logger) (*secretrotator.Rotator, func(), error) {
	client, err := s.httpClient(ctx)
	if err != nil {
		return nil, nil, err
	}
	setter, closeSetter, setterErr := s.setter(ctx, client)
	tester, testerErr := secretrotator.NewTokenTest(smartauth.Config{
		BaseURL: s.baseURL, ClientID: s.clientID, Scopes: s.scopes, TokenEndpoint: s.tokenEndpoint,
		HTTPClient: client, AllowInsecureLoopback: s.allowInsecureLoopback, Observer: smartcred.LogTo(logger),
	}, &secretrotator.TokenTestOptions{
		Request:  secretrotator.TestRequest(s.test),
		Method:   provider.Method(s.authMethod),
		Encoding: provider.SecretEncoding(s.secretEncoding),
	})
	api, closeAPI, apiErr := s.secretsManager(ctx)
	closeAll := func() {
		closeSetter()
		closeAPI()
	}
	if err := errors.Join(setterErr, testerErr, apiErr); err != nil {
		closeAll()
		return nil, nil, err
	}
	r, err := secretrotator.New(api, setter, tester, &secretrotator.Options{Field: s.field, Length: s.length, Logger: logger})
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	return r, closeAll, nil
}

// setter returns the one way of the two that the settings name.
func (s *settings) setter(ctx context.Context, client *http.Client) (secretrotator.Setter, func(), error) {
	nothing := func() {}
	switch {
	case (s.hook != "") == s.registration:
		return nil, nothing, &smartcred.ConfigError{Option: "hook", Problem: "or registration: state one of them, which says how the server is told of the new secret"}
	case s.registration:
		if s.field == "" {
			return nil, nothing, &smartcred.ConfigError{Option: "field", Problem: "is missing: for registration the secret's value is a JSON object with the client secret, registration_client_uri and registration_access_token"}
		}
		g, err := secretrotator.NewRegistration(secretrotator.RegistrationOptions{
			ClientID: s.clientID, Overlap: s.overlap, NoOverlap: s.noOverlap,
			HTTPClient: client, AllowInsecureLoopback: s.allowInsecureLoopback,
		})
		if err != nil {
			return nil, nothing, err
		}
		return g, nothing, nil
	case s.overlap != 0 || s.noOverlap:
		return nil, nothing, &smartcred.ConfigError{Option: "overlap", Problem: "goes with registration only; a hook must let the server take both secrets for a while"}
	}
	if s.hookToken == "" {
		return nil, nothing, &smartcred.ConfigError{Option: "hook-token", Problem: "is missing: where the hook's Bearer token is kept: awssecretsmanager:///NAME, env:NAME or file:PATH"}
	}
	token, err := secretsource.Open(ctx, s.hookToken, &secretsource.OpenOptions{AllowInsecureLoopback: s.allowInsecureLoopback})
	if err != nil {
		return nil, nothing, &smartcred.ConfigError{Option: "hook-token", Problem: "can't be used", Err: err}
	}
	closeToken := func() {
		if c, ok := token.(io.Closer); ok {
			_ = c.Close() // there is nothing that its error could change
		}
	}
	h, err := secretrotator.NewHook(s.hook, token, &secretrotator.HookOptions{
		ClientID: s.clientID, SendCurrent: s.sendCurrent, HTTPClient: client, AllowInsecureLoopback: s.allowInsecureLoopback,
	})
	if err != nil {
		closeToken()
		return nil, nothing, err
	}
	return h, closeToken, nil
}

// secretsManager returns the SDK's client, configured as AWS's own tools are, and
// what closes its connections.
func (s *settings) secretsManager(ctx context.Context) (*secretsmanager.Client, func(), error) {
	load := awsclient.Options{Region: s.region}
	if arn := strings.SplitN(s.secretID, ":", 7); len(arn) == 7 {
		load.Default = arn[3]
	}
	sdk, closeIdle, err := awsclient.Load(ctx, load)
	if err != nil {
		return nil, func() {}, err
	}
	client := secretsmanager.NewFromConfig(sdk)
	o := client.Options()
	if err := awsclient.CheckEndpoint(o.BaseEndpoint, o.EndpointOptions.UseFIPSEndpoint, o.EndpointOptions.UseDualStackEndpoint, s.allowInsecureLoopback); err != nil {
		return nil, func() {}, err
	}
	return client, closeIdle, nil
}

// httpClient speaks to servers and hooks.
func (s *settings) httpClient(ctx context.Context) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes = 64 << 10
	t.DisableKeepAlives = true // a function is asleep between its steps: connections would be dead after it
	client := &http.Client{Transport: t}
	if s.caFile == "" {
		return client, nil
	}
	pem, err := securefile.Read(ctx, s.caFile, securefile.Options{})
	if err != nil {
		return nil, &smartcred.ConfigError{Option: "ca-file", Problem: "can't be read", Err: err}
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool() // a system without any
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, &smartcred.ConfigError{Option: "ca-file", Problem: "has no certificate in PEM: -----BEGIN CERTIFICATE-----"}
	}
	t.TLSClientConfig.RootCAs = roots
	return client, nil
}
