package awssecretsmanager_test

import (
	"encoding/json"
	"testing"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/secretsource/secretsourcetest"
)

// start starts a fake AWS that the environment points to.
func start(t *testing.T) *awsfake.Server {
	t.Helper()
	s := awsfake.New(nil)
	t.Cleanup(s.Close)
	for name, value := range s.Environment() {
		t.Setenv(name, value)
	}
	return s
}

// open opens a source as a configuration does, on loopback.
func open(t *testing.T, uri string) secretsource.Source {
	t.Helper()
	src, err := secretsource.Open(t.Context(), uri, &secretsource.OpenOptions{AllowInsecureLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func TestConformance(t *testing.T) {
	for name, kind := range map[string]struct {
		uri   string
		value func(string) string
	}{
		"text": {"awssecretsmanager:///smart/app", func(v string) string { return v }},
		"field": {"awssecretsmanager:///smart/app#client_secret", func(v string) string {
			raw, _ := json.Marshal(map[string]string{"client_secret": v, "client_id": "my-app"})
			return string(raw)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			secretsourcetest.Run(t, func(t *testing.T) *secretsourcetest.Harness {
				aws := start(t)
				aws.AddCredential(awsfake.Credential{AccessKeyID: "ASIAKITEXAMPLE", SecretAccessKey: "kit-secret-access-key", SessionToken: "kit-session-token-0123456789"})
				t.Setenv("AWS_ACCESS_KEY_ID", "ASIAKITEXAMPLE")
				t.Setenv("AWS_SECRET_ACCESS_KEY", "kit-secret-access-key")
				t.Setenv("AWS_SESSION_TOKEN", "kit-session-token-0123456789")
				aws.CreateSecret("smart/app", "")
				return &secretsourcetest.Harness{
					Open:        func(t *testing.T) secretsource.Source { return open(t, kind.uri) },
					Set:         func(_ *testing.T, value string) { aws.PutSecret("smart/app", kind.value(value)) },
					HasPrevious: true,
					Remove:      func(*testing.T) { aws.DeleteSecret("smart/app") },
					Deny:        func(*testing.T) func() { return aws.Deny("", "") },
					Stop:        func(*testing.T) func() { return aws.Stop() },
					Stall:       func(*testing.T) func() { return aws.Inject(awsfake.Fault{Stall: true}) },
					Garble:      func(*testing.T) func() { return aws.Inject(awsfake.Fault{Garble: true}) },
					Secrets:     []string{"kit-secret-access-key", "kit-session-token-0123456789"},
				}
			})
		})
	}
}
