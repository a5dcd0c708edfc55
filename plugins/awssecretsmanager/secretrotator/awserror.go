package secretrotator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/smartcred/smartcred"
)

// A StoreError says that Secrets Manager failed, not the server.
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

// An apiError is what is told of Secrets Manager's error: nothing that it wrote
// in words, because it was sent secrets.
type apiError struct {
	code, requestID, advice string
	kind                    error
}

func (e *apiError) Error() string {
	msg := "Secrets Manager answered " + e.code
	if e.requestID != "" {
		msg += " (request id " + e.requestID + ")"
	}
	if e.advice != "" {
		msg += ": " + e.advice
	}
	return msg
}

// Is reports whether target is the error of package smartcred that this one is.
func (e *apiError) Is(target error) bool { return e.kind != nil && target == e.kind }

// exists reports whether a version has another value already.
func exists(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.code == (&types.ResourceExistsException{}).ErrorCode()
}

// answers are Secrets Manager's error codes that say no; all others mean that
// asking again may help.
var answers = map[string]struct {
	kind   error
	advice string
}{
	"ResourceNotFoundException":     {smartcred.ErrNotFound, "the secret, or its version at that stage, is not there"},
	"ResourceExistsException":       {nil, "the version has another value already"},
	"InvalidRequestException":       {smartcred.ErrInvalidConfig, "the secret is in no state for this: is it marked for deletion?"},
	"InvalidParameterException":     {smartcred.ErrInvalidConfig, "check the secret's name or ARN and the version; a label may have been moved meanwhile"},
	"ValidationException":           {smartcred.ErrInvalidConfig, "check the secret's name or ARN and the version"},
	"LimitExceededException":        {nil, "a quota of the secret is used up, its versions for example"},
	"PreconditionNotMetException":   {nil, ""},
	"AccessDeniedException":         {smartcred.ErrDenied, "give the function's role secretsmanager:DescribeSecret, GetSecretValue, PutSecretValue and UpdateSecretVersionStage on this secret, and kms:Decrypt and kms:GenerateDataKey on its key"},
	"AccessDenied":                  {smartcred.ErrDenied, "give the function's role the right to do this"},
	"DecryptionFailure":             {smartcred.ErrDenied, "the secret's KMS key can't be used: check its state, and that the role has kms:Decrypt"},
	"EncryptionFailure":             {smartcred.ErrDenied, "the secret's KMS key can't be used: check its state, and that the role has kms:GenerateDataKey"},
	"UnrecognizedClientException":   {smartcred.ErrDenied, "the AWS credentials are not valid"},
	"InvalidClientTokenId":          {smartcred.ErrDenied, "the AWS credentials are not valid"},
	"InvalidSignatureException":     {smartcred.ErrDenied, "the AWS credentials are not valid, or the clock is wrong"},
	"MissingAuthenticationToken":    {smartcred.ErrDenied, "there are no AWS credentials"},
	"IncompleteSignature":           {smartcred.ErrDenied, "the AWS credentials are not valid"},
	"SignatureDoesNotMatch":         {smartcred.ErrDenied, "the AWS credentials are not valid"},
	"ExpiredTokenException":         {smartcred.ErrDenied, "the AWS credentials have expired"},
	"ExpiredToken":                  {smartcred.ErrDenied, "the AWS credentials have expired"},
	"OptInRequired":                 {smartcred.ErrDenied, ""},
	"InternalServiceError":          {smartcred.ErrUnavailable, ""},
	"InternalFailure":               {smartcred.ErrUnavailable, ""},
	"ServiceUnavailable":            {smartcred.ErrUnavailable, ""},
	"ServiceUnavailableException":   {smartcred.ErrUnavailable, ""},
	"ThrottlingException":           {smartcred.ErrUnavailable, ""},
	"Throttling":                    {smartcred.ErrUnavailable, ""},
	"TooManyRequestsException":      {smartcred.ErrUnavailable, ""},
	"RequestLimitExceeded":          {smartcred.ErrUnavailable, ""},
	"ProvisionedThroughputExceeded": {smartcred.ErrUnavailable, ""},
}

var plainRequestID = regexp.MustCompile(`^[0-9A-Fa-f-]{1,64}$`)

// awsError tells what went wrong in a call without what anybody sent.
func awsError(op string, err error) error { return &StoreError{Op: op, Err: awsCause(err)} }

func awsCause(err error) error {
	for _, ended := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, ended) {
			return &smartcred.UnavailableError{Err: ended}
		}
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		e := &apiError{code: api.ErrorCode()}
		answer, known := answers[e.code]
		e.kind, e.advice = answer.kind, answer.advice
		if !known {
			e.code, e.kind = "an error it has no name for", smartcred.ErrUnavailable
		}
		var resp *awshttp.ResponseError
		if errors.As(err, &resp) && plainRequestID.MatchString(resp.ServiceRequestID()) {
			e.requestID = resp.ServiceRequestID()
		}
		if e.kind == smartcred.ErrUnavailable {
			return &smartcred.UnavailableError{Err: e}
		}
		return e
	}
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() != 0 && resp.HTTPStatusCode() != http.StatusOK {
		return &smartcred.UnavailableError{Err: fmt.Errorf("HTTP %d that is no answer of Secrets Manager's", resp.HTTPStatusCode())}
	}
	if resp != nil && resp.HTTPStatusCode() == http.StatusOK {
		return errIncomplete
	}
	if strings.Contains(err.Error(), "get identity: ") {
		return &smartcred.UnavailableError{Err: errors.New("there are no AWS credentials, or what gives them can't be asked")}
	}
	return &smartcred.UnavailableError{Err: networkError(err)}
}

// errIncomplete is the cause where an answer lacks what it must have: its effect
// is not known, and running the step again finds out.
var errIncomplete = &smartcred.UnavailableError{Err: errors.New("the answer is incomplete: run the step again")}

func incomplete(op string) error { return &StoreError{Op: op, Err: errIncomplete} }
