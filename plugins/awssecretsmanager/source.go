package awssecretsmanager

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/secretsource"
)

// API is what a [Source] calls. [secretsmanager.Client] implements it.
type API interface {
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
}

// Options configure a [Source]. The zero value and nil are the safe defaults.
type Options struct {
	// Timeout bounds one look-up, with all the attempts that the SDK makes; 0: 10 seconds.
	Timeout time.Duration
}

// A Source is a [secretsource.Source] over one secret in AWS Secrets Manager. It
// is safe for concurrent use. A look-up is one call of GetSecretValue.
type Source struct {
	client  func() API // which may hold credentials: printing the Source calls no function
	name    string
	timeout time.Duration
	calls   flight.Calls
	closing func() // what Open opened; nil: nothing

	mu    sync.Mutex
	last  string    // version that was current last
	seen  time.Time // when it was seen
	since time.Time // when another one was seen last; zero: none was
}

var _ secretsource.Source = (*Source)(nil)

// New returns a Source for the secret of that name or ARN. An ARN's region
// counts, whatever the client's. Close does not close the client.
func New(client API, name string, opts *Options) (*Source, error) {
	s := &Source{client: func() API { return client }, name: name, timeout: awsclient.DefaultTimeout}
	if opts != nil && opts.Timeout > 0 {
		s.timeout = opts.Timeout
	}
	var errs []error
	if client == nil {
		errs = append(errs, &smartcred.ConfigError{Option: "client", Problem: "there is none"})
	}
	if err := errors.Join(append(errs, checkName(name))...); err != nil {
		return nil, fmt.Errorf("awssecretsmanager: make source: %w", err)
	}
	return s, nil
}

// stages are AWS's labels. AWSPENDING is not among them.
var stages = map[secretsource.Stage]string{secretsource.Current: "AWSCURRENT", secretsource.Previous: "AWSPREVIOUS"}

// Lookup implements [secretsource.Source].
func (s *Source) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	secret, err := s.lookup(ctx, stage)
	if err != nil {
		return secretsource.Secret{}, fmt.Errorf("awssecretsmanager: look up %s secret: %w", stage, err)
	}
	return secret, nil
}

func (s *Source) lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	label, ok := stages[stage]
	if !ok {
		return secretsource.Secret{}, smartcred.ErrNotFound
	}
	call := awsclient.Call{Action: "secretsmanager:GetSecretValue", Resource: s.name, Answers: answers, Message: byMessage}
	callCtx, end, err := s.calls.Begin(ctx, s.timeout)
	if err != nil {
		return secretsource.Secret{}, err
	}
	defer end()
	out, err := s.client().GetSecretValue(callCtx, &secretsmanager.GetSecretValueInput{SecretId: &s.name, VersionStage: &label}, s.inItsRegion)
	if err != nil {
		return secretsource.Secret{}, call.Error(callCtx, err)
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	version := aws.ToString(out.VersionId)
	switch {
	case !versionID.MatchString(version) || !slices.Contains(out.VersionStages, label):
		return secretsource.Secret{}, call.Incomplete(id, "the answer names no version at "+label)
	case out.SecretString == nil && out.SecretBinary == nil:
		return secretsource.Secret{}, call.Incomplete(id, "the answer holds no value")
	}
	value := out.SecretBinary
	if out.SecretString != nil {
		value = []byte(awsclient.SecretText(*out.SecretString))
	}
	if len(value) == 0 {
		return secretsource.Secret{}, &awsclient.Error{
			Action: call.Action, Resource: s.name, RequestID: awsclient.RequestIDOf(id), Err: smartcred.ErrInvalidConfig, Problem: "the value is empty",
		}
	}
	secret := secretsource.New(value, version)
	secret.Created = aws.ToTime(out.CreatedDate)
	if stage == secretsource.Current {
		secret.Created = s.becameCurrent(version, secret.Created)
	}
	return secret, nil
}

// becameCurrent returns when a version became current, as far as it is known: not
// before it was made, nor before this process last saw another one. A version may
// have been made long before, as AWSPENDING, or be one that was moved back to.
func (s *Source) becameCurrent(version string, made time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last != "" && s.last != version {
		s.since = s.seen
	}
	s.last, s.seen = version, time.Now()
	if s.since.After(made) {
		return s.since
	}
	return made
}

// inItsRegion sends the call to the region of an ARN: no other knows it.
func (s *Source) inItsRegion(o *secretsmanager.Options) {
	if region := regionOf(s.name); region != "" {
		o.Region = region
	}
}

// Close ends look-ups under way, which then return [smartcred.ErrClosed], as all
// later ones do. A second call does nothing.
func (s *Source) Close() error {
	s.calls.Close(s.closing)
	return nil
}

// answers are Secrets Manager's own errors.
var answers = map[string]awsclient.Answer{
	"ResourceNotFoundException": {Err: smartcred.ErrNotFound, Says: "there is no such secret in that account and region"},
	"InvalidRequestException":   {Err: smartcred.ErrInvalidConfig, Says: "the secret can't be read in the state that it is in"},
	"InvalidParameterException": {Err: smartcred.ErrInvalidConfig, Says: "AWS calls the request malformed: see the name of the secret"},
	"DecryptionFailure":         {Err: smartcred.ErrDenied, Says: "the KMS key that the secret is encrypted with can't decrypt it: see whether it is disabled or about to be deleted"},
}

// byMessage tells apart what has one code.
func byMessage(code, message string) (awsclient.Answer, bool) {
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(strings.ToLower(message), word) })
	}
	switch {
	case code == "ResourceNotFoundException" && says("staging label", "secret value"):
		return awsclient.Answer{Err: smartcred.ErrNotFound, Says: "the secret has no version at that stage"}, true
	case code == "InvalidRequestException" && says("deletion", "deleted"):
		return awsclient.Answer{Err: smartcred.ErrNotFound, Says: "the secret is about to be deleted: aws secretsmanager restore-secret keeps it"}, true
	case code == "AccessDeniedException" && says("access to kms", "kms:"): // not a user's or secret's name
		return awsclient.Answer{Err: smartcred.ErrDenied, Says: "the policies do not allow kms:Decrypt with the key that the secret is encrypted with"}, true
	default:
		return awsclient.Answer{}, false
	}
}

var (
	secretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@!:-]+$`)
	// Rotation functions choose their own: UUIDs by custom.
	versionID = regexp.MustCompile(`^[A-Za-z0-9/_+=.@!:-]{1,64}$`)
)

// checkName does not print the name: it may be a secret that was put in the wrong place.
func checkName(name string) error {
	arn := strings.SplitN(name, ":", 7)
	if len(name) > 2048 || !secretName.MatchString(name) || arn[0] == "arn" && (len(arn) != 7 || arn[2] != "secretsmanager" || arn[5] != "secret") {
		return &smartcred.ConfigError{Option: "name", Problem: "not the name or ARN of a secret in AWS Secrets Manager"}
	}
	return nil
}

// regionOf returns the region of an ARN; empty for a name.
func regionOf(name string) string {
	if arn := strings.SplitN(name, ":", 7); len(arn) == 7 && arn[0] == "arn" {
		return arn[3]
	}
	return ""
}
