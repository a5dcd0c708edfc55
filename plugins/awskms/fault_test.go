package awskms_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/signer"
)

// answer is a fault that answers with an error of AWS's.
func answer(status int, code string) awsfake.Fault {
	return awsfake.Fault{Error: &awsfake.Error{Status: status, Code: code, Message: "hunter2 in the message"}}
}

// The time-out is long enough for the SDK's attempts, as the default is, but where
// nothing answers: there it is what ends the call.
const (
	timeout   = 10 * time.Second
	impatient = 300 * time.Millisecond
	busy      = 3 * time.Second // what the machine may add
)

// Each fault gives a typed error in bounded time, in both methods, and after it
// the same signer signs.
func TestFaultsThenRecovery(t *testing.T) {
	faults := map[string]struct {
		spoil func(s *awsfake.Server, key string) (mend func())
		want  error
		says  string
	}{
		"throttled for long":             {inject(answer(400, "ThrottlingException")), smartcred.ErrUnavailable, "ThrottlingException: throttled"},
		"AccessDenied":                   {func(s *awsfake.Server, key string) func() { return s.Deny("", key) }, smartcred.ErrDenied, "AccessDeniedException: the policies"},
		"disabled":                       {state(awsfake.Disabled), smartcred.ErrDenied, "the key is disabled"},
		"pending deletion":               {state(awsfake.PendingDeletion), smartcred.ErrDenied, "about to be deleted"},
		"gone":                           {inject(answer(400, "NotFoundException")), smartcred.ErrNotFound, "NotFoundException: there is no such key"},
		"wrong usage":                    {inject(answer(400, "InvalidKeyUsageException")), smartcred.ErrUnsupportedAlgorithm, "InvalidKeyUsageException: the key is not for signing"},
		"expired credentials":            {inject(answer(400, "ExpiredTokenException")), smartcred.ErrDenied, "ExpiredTokenException: this process' temporary AWS credentials have expired"},
		"unknown credentials":            {inject(answer(400, "UnrecognizedClientException")), smartcred.ErrDenied, "does not take this process' credentials"},
		"a clock that is off":            {inject(answer(403, "RequestTimeTooSkewed")), smartcred.ErrDenied, "the clock is right"},
		"wrong signature":                {inject(answer(403, "SignatureDoesNotMatch")), smartcred.ErrDenied, "the clock is right"},
		"internal":                       {inject(answer(500, "KMSInternalException")), smartcred.ErrUnavailable, "KMSInternalException: KMS failed"},
		"key unavailable":                {inject(answer(500, "KeyUnavailableException")), smartcred.ErrUnavailable, "KeyUnavailableException"},
		"dependency":                     {inject(answer(503, "DependencyTimeoutException")), smartcred.ErrUnavailable, "DependencyTimeoutException"},
		"malformed":                      {inject(answer(400, "ValidationException")), smartcred.ErrInvalidConfig, "ValidationException"},
		"an error of nobody's":           {inject(answer(418, "hunter2")), smartcred.ErrUnavailable, "an answer with status 418 that is none of AWS's"},
		"down":                           {func(s *awsfake.Server, _ string) func() { return s.Stop() }, smartcred.ErrUnavailable, "the endpoint can't be reached"},
		"slow":                           {inject(awsfake.Fault{Stall: true}), smartcred.ErrUnavailable, "no answer in time"},
		"garbage":                        {inject(awsfake.Fault{Garble: true}), smartcred.ErrUnavailable, ""},
		"garbage with an error's status": {inject(awsfake.Fault{Garble: true, Status: 400}), smartcred.ErrUnavailable, "none of AWS's"},
		"a page":                         {inject(awsfake.Fault{Answer: "<html>hunter2</html>"}), smartcred.ErrUnavailable, "can't be read"},
		"an empty answer":                {inject(awsfake.Fault{Answer: "{}"}), smartcred.ErrUnavailable, ""},
		"a redirect":                     {inject(awsfake.Fault{Header: http.Header{"Location": {"http://127.0.0.1:1/"}}, Error: &awsfake.Error{Status: 307, Code: "TemporaryRedirect"}}), smartcred.ErrUnavailable, "status 307"},
	}
	for name, c := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := awsfake.New(nil)
			t.Cleanup(fake.Close)
			arn := fake.CreateKey(awsfake.Key{})
			fake.SetAlias("alias/smart", arn)
			limit := timeout
			if name == "slow" {
				limit = impatient
			}
			s, err := awskms.New(client(fake), "alias/smart", &awskms.Options{Timeout: limit, Observer: smartcred.Discard})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			keys, err := s.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			mend := c.spoil(fake, arn)
			for method, call := range map[string]func() error{
				"Sign": func() error { _, err := s.Sign(t.Context(), keys[0], []byte("header.claims")); return err },
				"Keys": func() error { _, err := s.Keys(t.Context()); return err },
			} {
				began := time.Now()
				err := call()
				took := time.Since(began)
				if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: got %v, want %v that says %q", method, err, c.want, c.says)
				}
				if err != nil && (strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "kms:")) {
					t.Errorf("%s: the error quotes the answer, or names no action: %v", method, err)
				}
				if took > limit+busy {
					t.Errorf("%s took %s", method, took)
				}
			}
			mend()
			if _, err := s.Sign(t.Context(), keys[0], []byte("header.claims")); err != nil {
				t.Errorf("mended: %v", err)
			}
			if _, err := s.Keys(t.Context()); err != nil {
				t.Errorf("mended: %v", err)
			}
		})
	}
}

func inject(f awsfake.Fault) func(*awsfake.Server, string) func() {
	return func(s *awsfake.Server, _ string) func() { return s.Inject(f) }
}

func state(to string) func(*awsfake.Server, string) func() {
	return func(s *awsfake.Server, key string) func() {
		s.SetKeyState(key, to)
		return func() { s.SetKeyState(key, awsfake.Enabled) }
	}
}

// client is the SDK's with its three attempts, and pauses that a test can wait for.
func client(s *awsfake.Server) *kms.Client {
	return kms.New(kms.Options{
		Region: awsfake.Region, BaseEndpoint: &s.URL,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
		Retryer:     retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 20 * time.Millisecond }),
	})
}

// A throttled request or two are the SDK's to repeat: nobody sees them.
func TestShortThrottling(t *testing.T) {
	fake := start(t, nil)
	arn := fake.CreateKey(awsfake.Key{})
	s := open(t, "awskms:///"+arn, smartcred.Discard)
	closeAtEnd(t, s)
	if err := sign(t, s, arn); err != nil {
		t.Fatal(err)
	}
	fake.ResetCalls()
	fake.Throttle("Sign", 2)
	if err := sign(t, s, arn); err != nil {
		t.Error(err)
	}
	if n := fake.Calls("Sign"); n != 3 {
		t.Errorf("%d calls of Sign, want 3", n)
	}
	fake.ResetCalls()
	defer fake.Throttle("Sign", 0)()
	if err := sign(t, s, arn); !errors.Is(err, smartcred.ErrUnavailable) {
		t.Errorf("throttled for long: %v", err)
	}
	if n := fake.Calls("Sign"); n != 3 {
		t.Errorf("%d calls of Sign, want the SDK's 3 and no more", n)
	}
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	fake := start(t, nil)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	arn := fake.CreateKey(awsfake.Key{})
	s := open(t, "awskms:///"+arn, smartcred.Discard)
	closeAtEnd(t, s)
	fault := answer(503, "ServiceUnavailableException")
	fault.Header = http.Header{"Retry-After": {"7"}}
	fake.Inject(fault)
	_, err := s.Keys(t.Context())
	var unavailable *smartcred.UnavailableError
	if !errors.As(err, &unavailable) || unavailable.RetryAfter != 7*time.Second {
		t.Errorf("got %v", err)
	}
}

// Refusals say what to do: the action, the key, and the request in CloudTrail.
func TestRefusalNamesActionKeyAndRequest(t *testing.T) {
	fake := start(t, nil)
	arn := fake.CreateKey(awsfake.Key{})
	fake.SetAlias("alias/smart", arn)
	s := open(t, "awskms:///alias/smart", smartcred.Discard)
	closeAtEnd(t, s)
	for operation, resource := range map[string]string{"DescribeKey": "alias/smart", "GetPublicKey": arn, "Sign": arn} {
		t.Run(operation, func(t *testing.T) {
			s := open(t, "awskms:///alias/smart", smartcred.Discard)
			closeAtEnd(t, s)
			defer fake.Deny(operation, arn)()
			err := sign(t, s, arn)
			requests := fake.Requests()
			id := requests[len(requests)-1].ID
			for _, says := range []string{"kms:" + operation + " on " + resource, "denied", id} {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("got %v, want one that says %q", err, says)
				}
			}
		})
	}
}

// Credentials that can't be had are an outage, those that are refused an answer.
func TestCredentials(t *testing.T) {
	fake := start(t, nil)
	arn := fake.CreateKey(awsfake.Key{})
	open := func(t *testing.T) signer.Signer {
		s := open(t, "awskms:///"+arn, smartcred.Discard)
		closeAtEnd(t, s)
		return s
	}
	t.Run("none", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		if _, err := open(t).Keys(t.Context()); !errors.Is(err, smartcred.ErrUnavailable) || !strings.Contains(err.Error(), "no AWS credentials can be had") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("wrong key", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-hunter2")
		if _, err := open(t).Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("expired, then renewed", func(t *testing.T) {
		fake.AddCredential(awsfake.Credential{AccessKeyID: "ASIAOLD", SecretAccessKey: "old", SessionToken: "t", Expires: time.Now().Add(-time.Minute)})
		fake.AddCredential(awsfake.Credential{AccessKeyID: "ASIANEW", SecretAccessKey: "new", SessionToken: "t"})
		id := "ASIAOLD"
		provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id, SecretAccessKey: strings.ToLower(id[4:]), SessionToken: "t"}, nil
		})
		s, err := awskms.New(kms.New(kms.Options{Region: awsfake.Region, BaseEndpoint: &fake.URL, Credentials: provider}), arn, &awskms.Options{Observer: smartcred.Discard})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), "have expired") {
			t.Errorf("got %v", err)
		}
		id = "ASIANEW"
		if _, err := s.Keys(t.Context()); err != nil {
			t.Errorf("renewed: %v", err)
		}
	})
	t.Run("role that can't be assumed", func(t *testing.T) {
		token := t.TempDir() + "/token"
		writeFile(t, token, "a web identity token, hunter2")
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app")
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
		t.Setenv("AWS_MAX_ATTEMPTS", "1")
		for code, want := range map[string]error{"AccessDenied": smartcred.ErrDenied, "IDPRejectedClaim": smartcred.ErrDenied, "ServiceUnavailable": smartcred.ErrUnavailable} {
			sts := stsThatAnswers(t, code)
			t.Setenv("AWS_ENDPOINT_URL_STS", sts)
			if _, err := open(t).Keys(t.Context()); !errors.Is(err, want) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "credentials") {
				t.Errorf("%s: got %v, want %v", code, err, want)
			}
		}
	})
	// It is not KMS that is out of reach.
	t.Run("nobody who gives them", func(t *testing.T) {
		srv := httptest.NewServer(http.NotFoundHandler())
		srv.Close()
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL)
		t.Setenv("AWS_MAX_ATTEMPTS", "1")
		if _, err := open(t).Keys(t.Context()); !errors.Is(err, smartcred.ErrUnavailable) || !strings.Contains(err.Error(), "no AWS credentials can be had") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not in time", func(t *testing.T) {
		over := make(chan struct{}) // the SDK goes on asking for whoever comes next
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
		t.Cleanup(func() { close(over); srv.Close() })
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", srv.URL)
		ctx, cancel := context.WithTimeout(t.Context(), impatient)
		defer cancel()
		if _, err := open(t).Keys(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for AWS credentials") {
			t.Errorf("got %v", err)
		}
	})
}
