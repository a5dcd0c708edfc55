package main

import (
	"strings"
	"testing"

	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A key in KMS and a secret in Secrets Manager by their URIs: jwks, token, check,
// and the exit status where AWS says no or nothing.
func TestAWS(t *testing.T) {
	w := newWorld(t, nil)
	aws := awsfake.New(nil)
	t.Cleanup(aws.Close)
	for name, value := range aws.Environment() {
		w.env = append(w.env, name+"="+value)
	}
	current, next := aws.CreateKey(awsfake.Key{}), aws.CreateKey(awsfake.Key{})
	aws.SetAlias("alias/smart", current)
	aws.SetAlias("alias/smart-next", next)
	aws.CreateSecret("smart/app", `{"client_secret":"hunter2"}`)
	w.srv.AddClient(smartauthtest.Client{ID: "by-key", JWKS: map[string]any{"keys": []any{}}})
	w.srv.AddClient(smartauthtest.Client{ID: "by-secret", Secrets: []string{"hunter2"}})

	common := []string{"--base-url", w.srv.URL, "--allow-insecure-loopback", "--scopes", "system/*.rs"}
	key := append([]string{"--client-id", "by-key", "--signer", "awskms:///alias/smart?next=alias/smart-next&previous=alias/smart-previous"}, common...)
	secret := append([]string{"--client-id", "by-secret", "--secret", "awssecretsmanager:///smart/app#client_secret"}, common...)

	set := decodeJSON[signer.JWKSet](t, w.run(append([]string{"jwks"}, key...)...).ok())
	if len(set.Keys) != 2 {
		t.Fatalf("%d keys in the set, want next and current", len(set.Keys))
	}
	w.srv.SetJWKS("by-key", set)
	for name, args := range map[string][]string{"key": key, "secret": secret} {
		r := w.run(append([]string{"token"}, args...)...)
		if r.ok() == "" || r.stderr != "" {
			t.Errorf("%s: standard error %q", name, r.stderr)
		}
		r = w.run(append([]string{"check"}, args...)...)
		if name == "key" && !strings.Contains(r.stdout, "generated inside: AWS KMS key "+current) {
			t.Errorf("%s: check says\n%s%s", name, r.stdout, r.stderr)
		}
		if r.status != exitDone {
			t.Errorf("%s: check ends with %d:\n%s", name, r.status, r.stdout)
		}
		allow := aws.Deny("", "")
		w.run(append([]string{"token"}, args...)...).fails(exitBackend, "denied", "AWS request")
		allow()
	}
	start := aws.Stop()
	w.env = append(w.env, "AWS_MAX_ATTEMPTS=1")
	w.run(append([]string{"token"}, key...)...).fails(exitBackend, "kms:DescribeKey", "can't be reached")
	start()
	w.run("token", "--client-id", "by-key", "--base-url", w.srv.URL, "--signer", "awskms:///alias/smart", "--scopes", "system/*.rs").
		fails(exitUsage, "allow_insecure_loopback")
}
