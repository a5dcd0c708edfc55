package awskms_test

import (
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/signer/signertest"
)

// start starts a fake AWS that the environment points to.
func start(t *testing.T, opts *awsfake.Options) *awsfake.Server {
	t.Helper()
	s := awsfake.New(opts)
	t.Cleanup(s.Close)
	for name, value := range s.Environment() {
		t.Setenv(name, value)
	}
	return s
}

// open opens a signer as a configuration does, on loopback.
func open(t *testing.T, uri string, observer smartcred.Observer) signer.Signer {
	t.Helper()
	s, err := signer.Open(t.Context(), uri, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{AllowInsecureLoopback: true, Observer: observer}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	for _, spec := range []string{"ECC_NIST_P384", "RSA_2048"} {
		t.Run(spec, func(t *testing.T) {
			signertest.Run(t, func(t *testing.T) *signertest.Harness {
				aws := start(t, nil)
				aws.AddCredential(awsfake.Credential{AccessKeyID: "ASIAKITEXAMPLE", SecretAccessKey: "kit-secret-access-key", SessionToken: "kit-session-token-0123456789"})
				t.Setenv("AWS_ACCESS_KEY_ID", "ASIAKITEXAMPLE")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "kit-secret-access-key")
				t.Setenv("AWS_SESSION_TOKEN", "kit-session-token-0123456789")
				newKey := func() { aws.SetAlias("alias/smart", aws.CreateKey(awsfake.Key{Spec: spec})) }
				newKey()
				return &signertest.Harness{
					Open:    func(t *testing.T) signer.Signer { return open(t, "awskms:///alias/smart", smartcred.Discard) },
					Rotate:  func(*testing.T) { newKey() },
					Disable: func(_ *testing.T, version string) { aws.SetKeyState(version, awsfake.Disabled) },
					Deny:    func(*testing.T) func() { return aws.Deny("", "") },
					Stop:    func(*testing.T) func() { return aws.Stop() },
					Stall:   func(*testing.T) func() { return aws.Inject(awsfake.Fault{Stall: true}) },
					Garble:  func(*testing.T) func() { return aws.Inject(awsfake.Fault{Garble: true}) },
					Secrets: []string{"kit-secret-access-key", "kit-session-token-0123456789"},
				}
			})
		})
	}
}
