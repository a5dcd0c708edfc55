package secretrotator_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	secretName = "smart/my-app"
	clientID   = "my-app"
	firstValue = "the-first-secret-not-a-real-one-0123456789"
	hookToken  = "hook-token-not-a-real-one-0123456789"
	scope      = "system/*.rs"
)

// A world is an AWS, an EHR, and what stands between them.
type world struct {
	t      *testing.T
	aws    *awsfake.Server
	ehr    *smartauthtest.Server
	faults *injector
	field  string // of the value
	arn    string
	log    strings.Builder
}

// newWorld keeps value at AWS, unless it is empty; the EHR takes firstValue.
func newWorld(t *testing.T, field, value string) *world {
	t.Helper()
	w := &world{t: t, aws: awsfake.New(nil), ehr: smartauthtest.NewServer(t, nil), faults: &injector{at: -1}, field: field}
	t.Cleanup(w.aws.Close)
	w.ehr.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{firstValue}, Scopes: []string{scope}})
	w.arn = w.aws.CreateSecret(secretName, value)
	return w
}

func (w *world) sdk() *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		Region: awsfake.Region, BaseEndpoint: &w.aws.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(awsfake.AccessKeyID, awsfake.SecretAccessKey, ""),
	})
}

func (w *world) http() *http.Client {
	return &http.Client{Transport: w.faults.around(&http.Transport{DisableKeepAlives: true})}
}

func (w *world) rotator(setter secretrotator.Setter) *secretrotator.Rotator {
	w.t.Helper()
	test, err := secretrotator.NewTokenTest(smartauth.Config{
		BaseURL: w.ehr.URL, ClientID: clientID, Scopes: []string{scope}, TokenEndpoint: w.ehr.TokenURL,
		HTTPClient: w.http(), AllowInsecureLoopback: true, Observer: smartcred.Discard,
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := secretrotator.New(&faultyAPI{w.sdk(), w.faults}, setter, test, &secretrotator.Options{
		Field: w.field, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) hook(service *hookService, opts *secretrotator.HookOptions) *secretrotator.Hook {
	w.t.Helper()
	if opts == nil {
		opts = &secretrotator.HookOptions{ClientID: clientID}
	}
	opts.AllowInsecureLoopback, opts.HTTPClient = true, w.http()
	h, err := secretrotator.NewHook(service.url, secretsource.Static([]byte(hookToken)), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// secret returns the client secret at a stage, as consumers read it.
func (w *world) secret(stage string) string {
	w.t.Helper()
	text := w.aws.SecretString(secretName, stage)
	if w.field == "" || text == "" {
		return text
	}
	return w.member(stage, w.field)
}

func (w *world) member(stage, name string) string {
	w.t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(w.aws.SecretString(secretName, stage)), &members); err != nil {
		w.t.Fatal(err)
	}
	text, _ := members[name].(string)
	return text
}

// takes reports whether the EHR takes a secret.
func (w *world) takes(secret string) bool {
	w.t.Helper()
	test, err := secretrotator.NewTokenTest(smartauth.Config{
		BaseURL: w.ehr.URL, ClientID: clientID, Scopes: []string{scope}, TokenEndpoint: w.ehr.TokenURL,
		AllowInsecureLoopback: true, Observer: smartcred.Discard,
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	err = test.Test(w.t.Context(), secretrotator.Change{Pending: secretsource.New([]byte(secret), "")})
	if err != nil && !errors.Is(err, secretrotator.ErrRefused) {
		w.t.Fatal(err)
	}
	return err == nil
}

// begin does what Secrets Manager does before it calls the function.
func (w *world) begin() (version string) {
	w.t.Helper()
	out, err := w.sdk().RotateSecret(w.t.Context(), &secretsmanager.RotateSecretInput{SecretId: &w.arn, RotationLambdaARN: aws.String("arn:aws:lambda:eu-central-1:111122223333:function:rotate")})
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.VersionId
}

// invoke calls the function as Lambda does.
func (w *world) invoke(r *secretrotator.Rotator, step secretrotator.Step, version string) error {
	w.t.Helper()
	payload, err := json.Marshal(map[string]string{
		"Step": string(step), "SecretId": w.arn, "ClientRequestToken": version, "RotationToken": "rotation-token-not-a-real-one",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := lambda.NewHandler(r.Handle).Invoke(w.t.Context(), payload)
	if err == nil && string(answer) != "null" {
		w.t.Errorf("%s answers %q", step, answer)
	}
	return err
}

// invokeAll runs all steps, and ends at the first that fails.
func (w *world) invokeAll(r *secretrotator.Rotator, version string) error {
	for _, step := range secretrotator.Steps {
		if err := w.invoke(r, step, version); err != nil {
			return err
		}
	}
	return nil
}

// noLeak fails if text has anything secret in it.
func (w *world) noLeak(text string, more ...string) {
	w.t.Helper()
	secrets := append([]string{firstValue, hookToken, "rotation-token-not-a-real-one", awsfake.SecretAccessKey}, more...)
	for _, stage := range []string{awsfake.Current, awsfake.Previous, awsfake.Pending} {
		secrets = append(secrets, w.secret(stage))
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			w.t.Errorf("a secret is in %q", text)
		}
	}
}

// An injector makes one of a number of calls fail, before or after it was made.
type injector struct {
	mu    sync.Mutex
	at    int // the call; negative: none
	after bool
	calls []string
}

var errInjected = errors.New("injected failure")

func (i *injector) arm(at int, after bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.at, i.after, i.calls = at, after, nil
}

func (i *injector) made() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.calls)
}

func (i *injector) do(name string, call func() error) error {
	i.mu.Lock()
	hit := len(i.calls) == i.at
	i.calls = append(i.calls, name)
	i.mu.Unlock()
	if hit && !i.after {
		return errInjected
	}
	if err := call(); !hit {
		return err
	}
	return errInjected
}

func (i *injector) around(base http.RoundTripper) http.RoundTripper { return &faultyTransport{base, i} }

type faultyTransport struct {
	base   http.RoundTripper
	faults *injector
}

func (f *faultyTransport) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	err = f.faults.do(req.Method+" "+req.URL.Path, func() error {
		resp, err = f.base.RoundTrip(req)
		return err
	})
	if err != nil && resp != nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		resp = nil
	}
	return resp, err
}

type faultyAPI struct {
	api    *secretsmanager.Client
	faults *injector
}

func inject[In, Out any](ctx context.Context, f *injector, name string, in *In, opts []func(*secretsmanager.Options), call func(context.Context, *In, ...func(*secretsmanager.Options)) (*Out, error)) (out *Out, err error) {
	err = f.do(name, func() error {
		out, err = call(ctx, in, opts...)
		return err
	})
	return out, err
}

func (a *faultyAPI) DescribeSecret(ctx context.Context, in *secretsmanager.DescribeSecretInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error) {
	return inject(ctx, a.faults, "DescribeSecret", in, opts, a.api.DescribeSecret)
}

func (a *faultyAPI) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	return inject(ctx, a.faults, "GetSecretValue", in, opts, a.api.GetSecretValue)
}

func (a *faultyAPI) PutSecretValue(ctx context.Context, in *secretsmanager.PutSecretValueInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error) {
	return inject(ctx, a.faults, "PutSecretValue", in, opts, a.api.PutSecretValue)
}

func (a *faultyAPI) UpdateSecretVersionStage(ctx context.Context, in *secretsmanager.UpdateSecretVersionStageInput, opts ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error) {
	return inject(ctx, a.faults, "UpdateSecretVersionStage", in, opts, a.api.UpdateSecretVersionStage)
}
