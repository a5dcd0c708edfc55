package awsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

// An Error is what came of a call, in words that hold nothing of the answer but
// its request id.
type Error struct {
	Action    string // kms:Sign
	Resource  string // as configured, or the ARN that AWS gave
	Problem   string
	RequestID string // AWS's, to find the call in CloudTrail
	Err       error  // a sentinel of package smartcred, or a context's error; nil inside an UnavailableError
}

// Error implements error.
func (e *Error) Error() string {
	msg := e.Action + " on " + e.Resource + ": "
	if e.Err != nil {
		msg += e.Err.Error() + ": "
	}
	msg += e.Problem
	if e.RequestID != "" {
		msg += " (AWS request " + e.RequestID + ")"
	}
	return msg
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

// RequestID returns the AWS request id of the call that err is about.
func RequestID(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.RequestID
	}
	return ""
}

// An Answer is what an error of AWS means: an error of package smartcred (nil:
// unavailable), and what to say of it, with the name of the error before it.
type Answer struct {
	Err  error
	Says string
}

// A Call names what was asked.
type Call struct {
	Action   string
	Resource string
	// Answers are the errors of this operation, by their codes.
	Answers map[string]Answer
	// Message may tell errors with one code apart by AWS's message, which is not
	// shown; nil: the code says it all.
	Message func(code, message string) (Answer, bool)
}

const refusedCredentials = "AWS does not take this process' credentials: see that they are there, are not revoked, and that the clock is right"

// answers are errors that every operation may have.
var answers = map[string]Answer{
	"AccessDeniedException":               {smartcred.ErrDenied, "the policies of role, key or endpoint do not allow it to this process"},
	"AccessDenied":                        {smartcred.ErrDenied, "the policies of role, key or endpoint do not allow it to this process"},
	"ExpiredTokenException":               {smartcred.ErrDenied, "this process' temporary AWS credentials have expired: renew them"},
	"ExpiredToken":                        {smartcred.ErrDenied, "this process' temporary AWS credentials have expired: renew them"},
	"RequestExpired":                      {smartcred.ErrDenied, refusedCredentials},
	"UnrecognizedClientException":         {smartcred.ErrDenied, refusedCredentials},
	"InvalidClientTokenId":                {smartcred.ErrDenied, refusedCredentials},
	"InvalidSignatureException":           {smartcred.ErrDenied, refusedCredentials},
	"SignatureDoesNotMatch":               {smartcred.ErrDenied, refusedCredentials},
	"IncompleteSignatureException":        {smartcred.ErrDenied, refusedCredentials},
	"IncompleteSignature":                 {smartcred.ErrDenied, refusedCredentials},
	"MissingAuthenticationTokenException": {smartcred.ErrDenied, refusedCredentials},
	"MissingAuthenticationToken":          {smartcred.ErrDenied, refusedCredentials},
	"OptInRequired":                       {smartcred.ErrDenied, "the account is not subscribed to the service, or not in this region"},
	"NotAuthorized":                       {smartcred.ErrDenied, "the policies do not allow it to this process"},
	"InvalidIdentityToken":                {smartcred.ErrDenied, refusedCredentials},
	"IDPRejectedClaim":                    {smartcred.ErrDenied, refusedCredentials},
	"RequestTimeTooSkewed":                {smartcred.ErrDenied, refusedCredentials},
	"ValidationException":                 {smartcred.ErrInvalidConfig, "AWS calls the request malformed: see the name of the resource"},
	"ThrottlingException":                 {nil, "throttled: the account's quota of requests is used up"},
	"Throttling":                          {nil, "throttled: the account's quota of requests is used up"},
	"TooManyRequestsException":            {nil, "throttled: the account's quota of requests is used up"},
	"RequestLimitExceeded":                {nil, "throttled: the account's quota of requests is used up"},
	"LimitExceededException":              {nil, "throttled: the account's quota of requests is used up"},
	"ServiceUnavailableException":         {nil, "the service is not available"},
	"ServiceUnavailable":                  {nil, "the service is not available"},
	"InternalFailure":                     {nil, "the service failed"},
	"InternalServiceError":                {nil, "the service failed"},
	"InternalServerError":                 {nil, "the service failed"},
	"RequestTimeout":                      {nil, "the service timed out"},
	"RequestTimeoutException":             {nil, "the service timed out"},
}

// Error puts an error of the SDK into smartcred's words. ctx is the one that
// [flight.Calls.Begin] gave.
func (c Call) Error(ctx context.Context, err error) error {
	unsigned := isUnsigned(err)
	if why := flight.Ended(ctx); why != nil {
		if unsigned {
			return fmt.Errorf("%s on %s: waiting for AWS credentials: %w", c.Action, c.Resource, why)
		}
		return fmt.Errorf("%s on %s: %w", c.Action, c.Resource, why)
	}
	if unsigned {
		return c.credentials(err)
	}
	var resp *smithyhttp.ResponseError
	if !errors.As(err, &resp) || resp.Response == nil || resp.HTTPStatusCode() == 0 {
		return c.notAnswered(err)
	}
	failed := &Error{Action: c.Action, Resource: c.Resource, RequestID: requestID(err)}
	status := resp.HTTPStatusCode()
	var api smithy.APIError
	if errors.As(err, &api) {
		code := api.ErrorCode()
		answer, known := c.answer(code, api.ErrorMessage())
		if known {
			failed.Problem = code + ": " + answer.Says
			if failed.Err = answer.Err; answer.Err != nil {
				return failed
			}
			return unavailable(failed, resp)
		}
	}
	failed.Problem = fmt.Sprintf("an answer with status %d that is none of AWS's", status)
	if status == http.StatusOK {
		failed.Problem = "the answer can't be read"
	}
	return unavailable(failed, resp)
}

func (c Call) answer(code, message string) (Answer, bool) {
	if c.Message != nil {
		if answer, ok := c.Message(code, message); ok {
			return answer, true
		}
	}
	if answer, ok := c.Answers[code]; ok {
		return answer, true
	}
	answer, ok := answers[code]
	return answer, ok
}

// isUnsigned reports whether a request failed for want of credentials to sign it
// with: what else the error holds is then about who gives them. The SDK's step has
// no type of its own, but a name.
func isUnsigned(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if strings.HasPrefix(err.Error(), "get identity: ") {
			return true
		}
	}
	return false
}

// Incomplete is the error of an answer that lacks what it must have.
func (c Call) Incomplete(requestID, problem string) error {
	return &smartcred.UnavailableError{Err: &Error{Action: c.Action, Resource: c.Resource, Problem: problem, RequestID: RequestIDOf(requestID)}}
}

// credentials is the error of a request that could not be signed.
func (c Call) credentials(err error) error {
	failed := &Error{Action: c.Action, Resource: c.Resource, Err: smartcred.ErrDenied}
	var api smithy.APIError
	if errors.As(err, &api) {
		if answer, ok := answers[api.ErrorCode()]; ok && answer.Err == smartcred.ErrDenied {
			failed.Problem = "credentials for it were refused: " + api.ErrorCode() + ": see the role's trust policy and the web identity or key that it is assumed with"
			return failed
		}
	}
	failed.Err, failed.Problem = nil, "no AWS credentials can be had: see AWS_ACCESS_KEY_ID, AWS_PROFILE, or the role of the pod or instance"
	return &smartcred.UnavailableError{Err: failed}
}

// notAnswered is the error of a request that was not sent, or not answered. Of
// what broke it only the kinds that quote nothing of the answer are shown.
func (c Call) notAnswered(err error) error {
	var sent *smithyhttp.RequestSendError
	if !errors.As(err, &sent) {
		return c.credentials(err)
	}
	problem := "the connection broke"
	var dns *net.DNSError
	var op *net.OpError
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		problem = "the endpoint's host name can't be resolved: see region and endpoint"
	case errors.As(err, &certificate):
		problem = "the endpoint's certificate does not verify: see AWS_CA_BUNDLE"
	case errors.As(err, &timeout) && timeout.Timeout():
		problem = flight.ErrTimeout.Error()
	case errors.As(err, &op):
		problem = "the endpoint can't be reached: " + op.Op
	}
	return c.Incomplete("", problem)
}

func unavailable(failed *Error, resp *smithyhttp.ResponseError) error {
	e := &smartcred.UnavailableError{Err: failed}
	if s, err := strconv.ParseUint(resp.Response.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

func requestID(err error) string {
	var e *awshttp.ResponseError
	if errors.As(err, &e) {
		return RequestIDOf(e.ServiceRequestID())
	}
	return ""
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// RequestIDOf returns id if it looks like one of AWS's: a broken proxy may put
// anything there.
func RequestIDOf(id string) string {
	if uuid.MatchString(id) {
		return id
	}
	return ""
}
