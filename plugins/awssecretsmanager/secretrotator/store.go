package secretrotator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go/middleware"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
)

// SecretsManager are the calls that a rotation makes; *secretsmanager.Client has
// them.
type SecretsManager interface {
	DescribeSecret(context.Context, *secretsmanager.DescribeSecretInput, ...func(*secretsmanager.Options)) (*secretsmanager.DescribeSecretOutput, error)
	GetSecretValue(context.Context, *secretsmanager.GetSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error)
	PutSecretValue(context.Context, *secretsmanager.PutSecretValueInput, ...func(*secretsmanager.Options)) (*secretsmanager.PutSecretValueOutput, error)
	UpdateSecretVersionStage(context.Context, *secretsmanager.UpdateSecretVersionStageInput, ...func(*secretsmanager.Options)) (*secretsmanager.UpdateSecretVersionStageOutput, error)
}

var _ SecretsManager = (*secretsmanager.Client)(nil)

// A StoreError says that Secrets Manager failed or holds what can't be used; the
// authorization server did not fail.
type StoreError struct {
	// Op is what was being done: "get AWSPENDING".
	Op string
	// Err is the cause; it matches the sentinels of package smartcred.
	Err error
}

// Error implements error.
func (e *StoreError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *StoreError) Unwrap() error { return e.Err }

// The staging labels.
const (
	stageCurrent  = "AWSCURRENT"
	stagePrevious = "AWSPREVIOUS"
	stagePending  = "AWSPENDING"
)

// answers are Secrets Manager's own errors.
var answers = map[string]awsclient.Answer{
	"ResourceNotFoundException": {Err: smartcred.ErrNotFound, Says: "the secret, or its version at that stage, is not there in this account and region"},
	"ResourceExistsException":   {Err: errExists, Says: "another run stored it"},
	"InvalidRequestException":   {Err: smartcred.ErrInvalidConfig, Says: "the secret is in no state for this: it is about to be deleted, or a label was moved meanwhile"},
	"InvalidParameterException": {Err: smartcred.ErrInvalidConfig, Says: "a label was moved meanwhile, or the name of secret or version is malformed"},
	"LimitExceededException":    {Err: smartcred.ErrInvalidConfig, Says: "a quota is used up, of the secret's versions for example"},
	"DecryptionFailure":         {Err: smartcred.ErrDenied, Says: "the secret's KMS key can't decrypt it: see whether it is disabled or about to be deleted, and that the role has kms:Decrypt"},
	"EncryptionFailure":         {Err: smartcred.ErrDenied, Says: "the secret's KMS key can't encrypt it: see whether it is disabled or about to be deleted, and that the role has kms:GenerateDataKey"},
}

var errExists = errors.New("the version has another value")

// A store is one account's Secrets Manager.
type store struct {
	api   func() SecretsManager // which may hold credentials: printing the Rotator calls no function
	field string
}

// A call is one call, with its time-out.
type call struct {
	op   string
	ctx  context.Context
	end  func()
	says awsclient.Call
}

func begin(ctx context.Context, timeout time.Duration, op, action, id string) call {
	c := call{op: op, says: awsclient.Call{Action: "secretsmanager:" + action, Resource: id, Answers: answers}}
	c.ctx, c.end = context.WithTimeout(ctx, timeout)
	return c
}

func (c call) failed(err error) error { return &StoreError{Op: c.op, Err: c.says.Error(c.ctx, err)} }

// incomplete is the error of an answer that lacks what it must have: its effect
// is not known, and running the step again finds out.
func (c call) incomplete(answered middleware.Metadata) error {
	id, _ := awsmiddleware.GetRequestIDMetadata(answered)
	return &StoreError{Op: c.op, Err: c.says.Incomplete(id, "the answer is incomplete: run the step again")}
}

// at sends a call to the region of an ARN: no other knows the secret.
func at(id string) func(*secretsmanager.Options) {
	return func(o *secretsmanager.Options) {
		if arn := strings.SplitN(id, ":", 7); len(arn) == 7 && arn[0] == "arn" {
			o.Region = arn[3]
		}
	}
}

// A description is what is known of a secret without its values.
type description struct {
	id              string
	rotationEnabled bool
	next            time.Time // of the next rotation; zero if unknown
	stages          map[string][]string
}

func (d *description) staged(version, stage string) bool {
	return slices.Contains(d.stages[version], stage)
}

// current returns the version staged AWSCURRENT; empty if there is none.
func (d *description) current() string {
	for version := range d.stages {
		if d.staged(version, stageCurrent) {
			return version
		}
	}
	return ""
}

func (s *store) describe(ctx context.Context, id string) (*description, error) {
	c := begin(ctx, awsclient.DefaultTimeout, "describe the secret", "DescribeSecret", id)
	defer c.end()
	out, err := s.api().DescribeSecret(c.ctx, &secretsmanager.DescribeSecretInput{SecretId: &id}, at(id))
	switch {
	case err != nil:
		return nil, c.failed(err)
	case aws.ToString(out.ARN) == "":
		return nil, c.incomplete(out.ResultMetadata)
	case out.DeletedDate != nil:
		return nil, &StoreError{Op: c.op, Err: fmt.Errorf("it is about to be deleted: %w", smartcred.ErrNotFound)}
	}
	return &description{
		id:              *out.ARN,
		rotationEnabled: aws.ToBool(out.RotationEnabled),
		next:            aws.ToTime(out.NextRotationDate),
		stages:          out.VersionIdsToStages,
	}, nil
}

// get returns the value at a stage, of that version if one is named.
func (s *store) get(ctx context.Context, id, version, stage string) (Value, error) {
	c := begin(ctx, awsclient.DefaultTimeout, "get "+stage, "GetSecretValue", id)
	defer c.end()
	in := &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: &stage}
	if version != "" {
		in.VersionId = &version
	}
	out, err := s.api().GetSecretValue(c.ctx, in, at(id))
	switch {
	case err != nil:
		return Value{}, c.failed(err)
	case aws.ToString(out.VersionId) == "" || version != "" && *out.VersionId != version:
		return Value{}, c.incomplete(out.ResultMetadata)
	case out.SecretString == nil && out.SecretBinary != nil:
		return Value{}, &StoreError{Op: c.op, Err: &smartcred.ConfigError{Option: "secret", Problem: "its value is binary: store it as a string"}}
	case out.SecretString == nil:
		return Value{}, c.incomplete(out.ResultMetadata)
	}
	v, err := readValue(*out.SecretString, *out.VersionId, s.field)
	if err != nil {
		return Value{}, &StoreError{Op: c.op, Err: err}
	}
	return v, nil
}

// put stores v as a version that has no value yet, or the same one.
func (s *store) put(ctx context.Context, e Event, v Value, stage string) error {
	return s.putIn(ctx, awsclient.DefaultTimeout, e, v, stage)
}

// What only this process and the server know may take longer to be stored, with
// more of the SDK's attempts than the one or three of other calls.
const (
	issuedTimeout  = 30 * time.Second
	issuedAttempts = 10
)

// putIssued is put for what a server issued, which nobody else may be able to find
// out: whatever becomes of the caller.
func (s *store) putIssued(ctx context.Context, e Event, v Value, stage string) error {
	return s.putIn(context.WithoutCancel(ctx), issuedTimeout, e, v, stage, func(o *secretsmanager.Options) {
		o.RetryMaxAttempts = max(o.RetryMaxAttempts, issuedAttempts)
	})
}

func (s *store) putIn(ctx context.Context, timeout time.Duration, e Event, v Value, stage string, opts ...func(*secretsmanager.Options)) error {
	c := begin(ctx, timeout, "put "+stage, "PutSecretValue", e.SecretID)
	defer c.end()
	text := string(v.whole.Reveal())
	in := &secretsmanager.PutSecretValueInput{
		SecretId: &e.SecretID, ClientRequestToken: &e.ClientRequestToken,
		SecretString: &text, VersionStages: []string{stage},
	}
	if e.RotationToken != "" {
		in.RotationToken = aws.String(string(e.RotationToken))
	}
	out, err := s.api().PutSecretValue(c.ctx, in, append(opts, at(e.SecretID))...)
	switch {
	case err != nil:
		return c.failed(err)
	case aws.ToString(out.VersionId) != e.ClientRequestToken:
		return c.incomplete(out.ResultMetadata)
	}
	return nil
}

// move takes a label off a version, if from names one, and puts it on another, if
// to does. It is refused where the label is not at from.
func (s *store) move(ctx context.Context, id, stage, from, to string) error {
	c := begin(ctx, awsclient.DefaultTimeout, "move "+stage, "UpdateSecretVersionStage", id)
	defer c.end()
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &id, VersionStage: &stage}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	if to != "" {
		in.MoveToVersionId = &to
	}
	out, err := s.api().UpdateSecretVersionStage(c.ctx, in, at(id))
	switch {
	case err != nil:
		return c.failed(err)
	case aws.ToString(out.ARN) == "":
		return c.incomplete(out.ResultMetadata)
	}
	return nil
}
