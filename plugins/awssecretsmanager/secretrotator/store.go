package secretrotator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
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

// The staging labels.
const (
	stageCurrent = "AWSCURRENT"
	stagePending = "AWSPENDING"
)

// A store is one account's Secrets Manager.
type store struct {
	api   SecretsManager
	field string
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
	out, err := s.api.DescribeSecret(ctx, &secretsmanager.DescribeSecretInput{SecretId: &id})
	switch {
	case err != nil:
		return nil, awsError("describe the secret", err)
	case aws.ToString(out.ARN) == "":
		return nil, incomplete("describe the secret")
	case out.DeletedDate != nil:
		return nil, &StoreError{Op: "describe the secret", Err: fmt.Errorf("it is marked for deletion: %w", smartcred.ErrNotFound)}
	}
	return &description{
		id:              aws.ToString(out.ARN),
		rotationEnabled: aws.ToBool(out.RotationEnabled),
		next:            aws.ToTime(out.NextRotationDate),
		stages:          out.VersionIdsToStages,
	}, nil
}

// get returns the value at a stage, of that version if one is named.
func (s *store) get(ctx context.Context, id, version, stage string) (Value, error) {
	op := "get " + stage
	in := &secretsmanager.GetSecretValueInput{SecretId: &id, VersionStage: &stage}
	if version != "" {
		in.VersionId = &version
	}
	out, err := s.api.GetSecretValue(ctx, in)
	switch {
	case err != nil:
		return Value{}, awsError(op, err)
	case aws.ToString(out.VersionId) == "" || version != "" && *out.VersionId != version:
		return Value{}, incomplete(op)
	case out.SecretString == nil && out.SecretBinary != nil:
		return Value{}, &StoreError{Op: op, Err: &smartcred.ConfigError{Option: "secret", Problem: "its value is binary: store it as a string"}}
	case out.SecretString == nil:
		return Value{}, incomplete(op)
	}
	v, err := readValue(*out.SecretString, *out.VersionId, s.field)
	if err != nil {
		return Value{}, &StoreError{Op: op, Err: err}
	}
	return v, nil
}

// put stores v as a version that has no value yet, or the same one.
func (s *store) put(ctx context.Context, e Event, v Value, stage string) error {
	op := "put " + stage
	text := string(v.whole.Reveal())
	in := &secretsmanager.PutSecretValueInput{
		SecretId: &e.SecretID, ClientRequestToken: &e.ClientRequestToken,
		SecretString: &text, VersionStages: []string{stage},
	}
	if e.RotationToken != "" {
		in.RotationToken = aws.String(string(e.RotationToken))
	}
	out, err := s.api.PutSecretValue(ctx, in)
	switch {
	case err != nil:
		return awsError(op, err)
	case aws.ToString(out.VersionId) != e.ClientRequestToken:
		return incomplete(op)
	}
	return nil
}

// finish moves AWSCURRENT from a version to another.
func (s *store) finish(ctx context.Context, id, from, to string) error {
	const op = "move AWSCURRENT"
	stage := stageCurrent
	in := &secretsmanager.UpdateSecretVersionStageInput{SecretId: &id, VersionStage: &stage, MoveToVersionId: &to}
	if from != "" {
		in.RemoveFromVersionId = &from
	}
	out, err := s.api.UpdateSecretVersionStage(ctx, in)
	switch {
	case err != nil:
		return awsError(op, err)
	case aws.ToString(out.ARN) == "":
		return incomplete(op)
	}
	return nil
}
