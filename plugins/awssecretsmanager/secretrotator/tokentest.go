package secretrotator

import (
	"context"
	"errors"
	"fmt"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
)

// A TestRequest is the request that [TokenTest] makes.
type TestRequest string

const (
	// TestToken asks for a token by client_credentials. The default.
	TestToken TestRequest = "token"
	// TestIntrospection asks about a token that does not exist (RFC 7662), for
	// which the client authenticates: for apps that have no client_credentials,
	// at servers with an introspection endpoint that asks for the secret.
	TestIntrospection TestRequest = "introspection"
	// TestUnauthorizedClient is TestToken, and the error unauthorized_client
	// counts as a success: by RFC 6749 section 5.2 it is what a client hears that
	// is authenticated and may not use the grant. See once, with a wrong secret,
	// that the server answers invalid_client then.
	TestUnauthorizedClient TestRequest = "unauthorized_client"
)

// A TokenTest is a [Tester] that sends one request with the new secret, and with
// that one only.
type TokenTest struct {
	cfg  smartauth.Config
	opts TokenTestOptions
}

var _ Tester = (*TokenTest)(nil)

// TokenTestOptions configure [NewTokenTest]. The zero value and nil are the defaults.
type TokenTestOptions struct {
	// Request is what is sent; empty: [TestToken].
	Request TestRequest
	// Method is client_secret_basic or client_secret_post; empty: basic.
	Method provider.Method
	// Encoding is for Basic only; empty: RFC 6749's.
	Encoding provider.SecretEncoding
}

// NewTokenTest returns a TokenTest of the client that cfg describes; its
// Provider is not used.
func NewTokenTest(cfg smartauth.Config, opts *TokenTestOptions) (*TokenTest, error) {
	t := &TokenTest{cfg: cfg}
	if opts != nil {
		t.opts = *opts
	}
	var problems []error
	switch t.opts.Request {
	case "":
		t.opts.Request = TestToken
	case TestToken, TestIntrospection, TestUnauthorizedClient:
	default:
		problems = append(problems, &smartcred.ConfigError{Option: "test", Problem: "is none of token, introspection, unauthorized_client"})
	}
	switch t.opts.Method {
	case "":
		t.opts.Method = provider.MethodClientSecretBasic
	case provider.MethodClientSecretBasic, provider.MethodClientSecretPost:
	default:
		problems = append(problems, &smartcred.ConfigError{Option: "auth_method", Problem: "is neither client_secret_basic nor client_secret_post"})
	}
	if len(problems) == 0 {
		_, closeAll, err := t.client(secretsource.Static([]byte("only to check the configuration")))
		if err != nil {
			problems = append(problems, err)
		} else {
			closeAll()
		}
	}
	if len(cfg.Scopes) == 0 && t.opts.Request != TestIntrospection {
		problems = append(problems, &smartcred.ConfigError{Option: "scopes", Problem: "is missing: what the token of the test is asked for"})
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("secretrotator: new token test: %w", errors.Join(problems...))
	}
	return t, nil
}

// client returns a client that knows one secret, and what ends it.
func (t *TokenTest) client(source secretsource.Source) (*smartauth.Client, func(), error) {
	p, err := provider.New(provider.Config{
		Method: t.opts.Method, Secret: source,
		SecretOptions: &provider.SecretOptions{
			Encoding: t.opts.Encoding, Observer: smartcred.Discard,
			Rotation: &provider.RotationOptions{Previous: provider.PreviousNever},
		},
	})
	if err != nil {
		return nil, nil, err
	}
	closer := p.(interface{ Close() error })
	cfg := t.cfg
	cfg.Provider = p
	client, err := smartauth.NewClient(cfg)
	if err != nil {
		_ = closer.Close()
		return nil, nil, err
	}
	return client, func() {
		_ = client.Close() // there is nothing that these errors could change
		_ = closer.Close()
	}, nil
}

// Test implements [Tester]. Errors that do not match [ErrRefused] say that the
// server could not be asked, or did not answer the question.
func (t *TokenTest) Test(ctx context.Context, change Change) error {
	client, closeAll, err := t.client(secretsource.Static(change.Pending.Reveal()))
	if err != nil {
		return err
	}
	defer closeAll()
	if t.opts.Request == TestIntrospection {
		_, err = client.Introspect(ctx, newVersion(), nil)
	} else {
		_, err = client.Token(ctx)
	}
	switch {
	case err == nil, t.opts.Request == TestUnauthorizedClient && errors.Is(err, provider.ErrUnauthorizedClient):
		return nil
	case errors.Is(err, provider.ErrInvalidClient) && !temporary(err):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, provider.ErrUnauthorizedClient):
		return fmt.Errorf("%w; a client without client_credentials is tested by introspection, or by unauthorized_client", err)
	}
	return err
}

// temporary reports whether the server is in trouble rather than sure.
func temporary(err error) bool {
	var answer *provider.TokenError
	return errors.As(err, &answer) && answer.Temporary()
}
