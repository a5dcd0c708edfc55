package awssecretsmanager_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager"
	"github.com/smartcred/smartcred/secretsource"
)

// client is the SDK's with its three attempts, and pauses that a test can wait for.
func client(s *awsfake.Server) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: awsfake.Region, BaseEndpoint: &s.URL,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
		Retryer:     retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 20 * time.Millisecond }),
	})
}

func newSource(t *testing.T, s *awsfake.Server, name string) *awssecretsmanager.Source {
	t.Helper()
	src, err := awssecretsmanager.New(client(s), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func newFake(t *testing.T, opts *awsfake.Options) *awsfake.Server {
	t.Helper()
	s := awsfake.New(opts)
	t.Cleanup(s.Close)
	return s
}

func value(t *testing.T, src secretsource.Source, stage secretsource.Stage) string {
	t.Helper()
	secret, err := src.Lookup(t.Context(), stage)
	if err != nil {
		if errors.Is(err, smartcred.ErrNotFound) {
			return "none"
		}
		t.Fatal(err)
	}
	return string(secret.Reveal())
}

func TestStages(t *testing.T) {
	aws := newFake(t, nil)
	aws.CreateSecret("smart", "one")
	src := newSource(t, aws, "smart")
	want := func(current, previous string) {
		t.Helper()
		if c, p := value(t, src, secretsource.Current), value(t, src, secretsource.Previous); c != current || p != previous {
			t.Errorf("current %s, previous %s; want %s, %s", c, p, current, previous)
		}
	}
	want("one", "none")
	pending := aws.StageSecret("smart", "two", awsfake.Pending)
	want("one", "none") // what is pending is nobody's yet
	aws.MoveStage("smart", awsfake.Current, pending)
	want("two", "one")
	first := aws.Version("smart", awsfake.Previous)
	aws.MoveStage("smart", awsfake.Current, first) // back
	want("one", "two")
	secret, err := src.Lookup(t.Context(), secretsource.Current)
	if err != nil {
		t.Fatal(err)
	}
	if secret.Version != first {
		t.Errorf("version %q, want the VersionId %q", secret.Version, first)
	}
	aws.MoveStage("smart", awsfake.Previous, "")
	want("one", "none")
}

// Created says when the value became current. AWS says when it was made: where
// this process saw another one after that, it knows better.
func TestCreated(t *testing.T) {
	clock := time.Now().Add(-10 * 24 * time.Hour)
	aws := newFake(t, &awsfake.Options{Now: func() time.Time { return clock }})
	aws.CreateSecret("smart", "one")
	made := clock
	pending := aws.StageSecret("smart", "two", awsfake.Pending)
	clock = time.Now()
	src := newSource(t, aws, "smart")
	created := func() time.Time {
		t.Helper()
		secret, err := src.Lookup(t.Context(), secretsource.Current)
		if err != nil {
			t.Fatal(err)
		}
		return secret.Created
	}
	if got := created(); got.Sub(made).Abs() > time.Millisecond {
		t.Errorf("created %s, want %s", got, made)
	}
	aws.MoveStage("smart", awsfake.Current, pending)
	for range 2 {
		if age := time.Since(created()); age > time.Minute {
			t.Errorf("it became current a moment ago, and Created says %s", age)
		}
	}
}

func TestValues(t *testing.T) {
	aws := newFake(t, nil)
	arn := aws.CreateSecret("smart/app", `{"client_secret":"s3cret","empty":"","n":1}`)
	aws.CreateBinarySecret("binary", []byte{0, 0xff, '\n'})
	aws.CreateSecret("typed", "s3cret\n")
	aws.CreateSecret("typed-on-windows", "s3cret\r\n")
	aws.CreateSecret("two-lines", "s3cret\n\n")
	for name, want := range map[string]string{
		"smart/app": `{"client_secret":"s3cret","empty":"","n":1}`, arn: `{"client_secret":"s3cret","empty":"","n":1}`,
		arn[:len(arn)-7]: `{"client_secret":"s3cret","empty":"","n":1}`, "binary": "\x00\xff\n",
		"typed": "s3cret", "typed-on-windows": "s3cret", "two-lines": "s3cret\n",
	} {
		if got := value(t, newSource(t, aws, name), secretsource.Current); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	start := aws.Environment()
	for name, v := range start {
		t.Setenv(name, v)
	}
	if got := value(t, open(t, "awssecretsmanager:///smart/app#client_secret"), secretsource.Current); got != "s3cret" {
		t.Errorf("the field has %q", got)
	}
	for field, want := range map[string]error{"missing": smartcred.ErrNotFound, "empty": smartcred.ErrInvalidConfig, "n": smartcred.ErrInvalidConfig} {
		src := open(t, "awssecretsmanager:///"+arn+"?region=us-west-2#"+field)
		if _, err := src.Lookup(t.Context(), secretsource.Current); !errors.Is(err, want) {
			t.Errorf("#%s: got %v, want %v", field, err, want)
		}
	}
}

// What has one kind of error is told apart by words, and each fault is over in
// bounded time; then the same source answers.
func TestFaultsThenRecovery(t *testing.T) {
	const impatient, busy = 300 * time.Millisecond, 3 * time.Second
	answer := func(status int, code string) func(*awsfake.Server) func() {
		return func(s *awsfake.Server) func() {
			return s.Inject(awsfake.Fault{Error: &awsfake.Error{Status: status, Code: code, Message: "hunter2 in the message"}})
		}
	}
	fault := func(f awsfake.Fault) func(*awsfake.Server) func() {
		return func(s *awsfake.Server) func() { return s.Inject(f) }
	}
	for name, c := range map[string]struct {
		spoil func(s *awsfake.Server) (mend func())
		want  error
		says  string
	}{
		"about to be deleted": {func(s *awsfake.Server) func() {
			s.DeleteSecret("smart")
			return func() { s.RestoreSecret("smart") }
		}, smartcred.ErrNotFound, "InvalidRequestException: the secret is about to be deleted"},
		"not found":           {answer(400, "ResourceNotFoundException"), smartcred.ErrNotFound, "ResourceNotFoundException: there is no such secret"},
		"denied":              {func(s *awsfake.Server) func() { return s.Deny("", "") }, smartcred.ErrDenied, "AccessDeniedException: the policies of role"},
		"denied by its key":   {fault(awsfake.Fault{Error: &awsfake.Error{Status: 400, Code: "AccessDeniedException", Message: "Access to KMS is not allowed"}}), smartcred.ErrDenied, "kms:Decrypt"},
		"denied, named kms":   {fault(awsfake.Fault{Error: &awsfake.Error{Status: 400, Code: "AccessDeniedException", Message: "User: arn:aws:iam::111122223333:user/kms-app is not authorized to perform: secretsmanager:GetSecretValue"}}), smartcred.ErrDenied, "policies of role"},
		"can't be decrypted":  {func(s *awsfake.Server) func() { return s.FailDecryption("smart") }, smartcred.ErrDenied, "DecryptionFailure: the KMS key"},
		"other state":         {answer(400, "InvalidRequestException"), smartcred.ErrInvalidConfig, "can't be read in the state"},
		"malformed":           {answer(400, "InvalidParameterException"), smartcred.ErrInvalidConfig, "InvalidParameterException"},
		"throttled":           {answer(400, "ThrottlingException"), smartcred.ErrUnavailable, "throttled"},
		"failed":              {answer(500, "InternalServiceError"), smartcred.ErrUnavailable, "the service failed"},
		"expired credentials": {answer(400, "ExpiredTokenException"), smartcred.ErrDenied, "have expired"},
		"down":                {func(s *awsfake.Server) func() { return s.Stop() }, smartcred.ErrUnavailable, "can't be reached"},
		"slow":                {fault(awsfake.Fault{Stall: true}), smartcred.ErrUnavailable, "no answer in time"},
		"garbage":             {fault(awsfake.Fault{Garble: true}), smartcred.ErrUnavailable, ""},
		"an empty answer":     {fault(awsfake.Fault{Answer: "{}"}), smartcred.ErrUnavailable, "names no version"},
		"no value":            {fault(awsfake.Fault{Change: func(m map[string]any) { delete(m, "SecretString") }}), smartcred.ErrUnavailable, "holds no value"},
		"another stage":       {fault(awsfake.Fault{Change: func(m map[string]any) { m["VersionStages"] = []string{"AWSPENDING"} }}), smartcred.ErrUnavailable, "names no version at AWSCURRENT"},
		"an empty value":      {fault(awsfake.Fault{Change: func(m map[string]any) { m["SecretString"] = "" }}), smartcred.ErrInvalidConfig, "the value is empty"},
		"a page":              {fault(awsfake.Fault{Answer: "<html>hunter2</html>", Header: http.Header{"X-Amzn-Requestid": {"hunter2"}}}), smartcred.ErrUnavailable, "can't be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aws := newFake(t, nil)
			aws.CreateSecret("smart", "hunter2")
			limit := 10 * time.Second
			if name == "slow" {
				limit = impatient
			}
			src, err := awssecretsmanager.New(client(aws), "smart", &awssecretsmanager.Options{Timeout: limit})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { src.Close() })
			mend := c.spoil(aws)
			began := time.Now()
			_, err = src.Lookup(t.Context(), secretsource.Current)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "secretsmanager:GetSecretValue on smart") {
				t.Errorf("got %v, want %v that says %q", err, c.want, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes the answer: %v", err)
			}
			if took := time.Since(began); took > limit+busy {
				t.Errorf("it took %s", took)
			}
			mend()
			if got := value(t, src, secretsource.Current); got != "hunter2" {
				t.Errorf("mended: %q", got)
			}
		})
	}
}

func TestPreviousIsNotReadUnasked(t *testing.T) {
	aws := newFake(t, nil)
	aws.CreateSecret("smart", "one")
	cache := secretsource.NewCache(newSource(t, aws, "smart"), nil)
	t.Cleanup(func() { cache.Close() })
	for range 10 {
		if _, err := cache.Lookup(t.Context(), secretsource.Current); err != nil {
			t.Fatal(err)
		}
	}
	if n := aws.Calls("GetSecretValue"); n != 1 {
		t.Errorf("%d calls of GetSecretValue, want 1", n)
	}
}

func TestDeadlineOfTheCaller(t *testing.T) {
	aws := newFake(t, nil)
	aws.CreateSecret("smart", "one")
	defer aws.Inject(awsfake.Fault{Stall: true})()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := newSource(t, aws, "smart").Lookup(ctx, secretsource.Current)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, smartcred.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestURIsThatAreRefused(t *testing.T) {
	aws := start(t)
	for uri, says := range map[string]string{
		"awssecretsmanager:smart":                           "three slashes",
		"awssecretsmanager://smart":                         "three slashes",
		"awssecretsmanager:///":                             "three slashes",
		"awssecretsmanager:///smart?stage=hunter2":          "known are region, profile",
		"awssecretsmanager:///hunter2%20":                   "not the name or ARN",
		"awssecretsmanager:///arn:aws:kms:x:1:secret:smart": "not the name or ARN",
		"awssecretsmanager:///smart#":                       "names nothing after it",
	} {
		_, err := secretsource.Open(t.Context(), uri, &secretsource.OpenOptions{AllowInsecureLoopback: true})
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want one that says %q", uri, err, says)
		}
	}
	t.Setenv("AWS_ENDPOINT_URL", "")
	t.Setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws.URL)
	if _, err := secretsource.Open(t.Context(), "awssecretsmanager:///smart", nil); !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("http, not allowed: got %v", err)
	}
	aws.CreateSecret("smart", "one")
	if got := value(t, open(t, "awssecretsmanager:///smart"), secretsource.Current); got != "one" {
		t.Errorf("http, allowed: got %q", got)
	}
}

func FuzzURI(f *testing.F) {
	for _, uri := range []string{
		"awssecretsmanager:///smart/app?region=eu-central-1#client_secret", "awssecretsmanager:////smart",
		"awssecretsmanager:///arn:aws:secretsmanager:eu-central-1:111122223333:secret:smart-AbCdEf", "awssecretsmanager:x", "awssecretsmanager:///%00",
	} {
		f.Add(uri)
	}
	f.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	f.Setenv("AWS_REGION", awsfake.Region)
	f.Fuzz(func(t *testing.T, uri string) {
		src, err := secretsource.Open(t.Context(), uri, nil)
		if u, bad := url.Parse(uri); err != nil && bad == nil && u.Scheme == awssecretsmanager.Scheme && !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%q: got %v", uri, err)
		}
		if c, ok := src.(interface{ Close() error }); ok {
			c.Close()
		}
	})
}
