// Package secretrotator changes a client secret that AWS Secrets Manager keeps:
// it is a rotation function with Secrets Manager's four steps, for AWS Lambda and
// for a command line (see cmd/smartcred-rotate, which is made of it).
//
//	sdk, err := config.LoadDefaultConfig(ctx)
//	if err != nil {
//		return err
//	}
//	hook, err := secretrotator.NewHook("https://secrets.example.org/smart", token, nil)
//	if err != nil {
//		return err
//	}
//	test, err := secretrotator.NewTokenTest(smartauth.Config{
//		BaseURL: "https://ehr.example.org/fhir/r4", ClientID: "my-app", Scopes: []string{"system/*.rs"},
//	}, nil)
//	if err != nil {
//		return err
//	}
//	r, err := secretrotator.New(secretsmanager.NewFromConfig(sdk), hook, test, nil)
//	if err != nil {
//		return err
//	}
//	lambda.Start(r.Handle) // github.com/aws/aws-lambda-go/lambda
//
// # The steps
//
//   - createSecret makes a secret and stores it as AWSPENDING, or has the server
//     issue one ([Issuer]).
//   - setSecret has the server take it: [Setter].
//   - testSecret proves that the server takes it: [Tester].
//   - finishSecret moves AWSCURRENT to it; AWSPREVIOUS moves along. It takes
//     AWSPENDING off: what is pending was never current.
//
// Each step may run again, after it failed, was cut off, or succeeded: a version
// that has a value keeps it, and one that is AWSCURRENT is done with. Consumers
// look AWSCURRENT up and see nothing of it until finishSecret, which is refused
// for a version without a value and for an expired one. [Rotator.Handle] runs the
// step that Secrets Manager asks for, [Rotator.Rotate] all four.
//
// # How a server is told
//
// That is each EHR's own matter. [Hook] posts the secret to an https URL of
// yours; its documentation is the protocol. [Registration] uses the client
// configuration endpoint of RFC 7592. A Setter of your own has one method.
//
// # Values
//
// The value is the client secret alone or, with [Options].Field, a JSON object
// that has it as a member; every other member is kept. Values are strings: binary
// ones are refused. Secrets made here have 258 bits of A-Z, a-z, 0-9 and "-._",
// characters that both encodings of HTTP Basic leave as they are.
//
// # Errors
//
// [smartcred.ErrInvalidConfig]: something to repair, such as rotation that is
// not enabled. [smartcred.ErrNotFound], [smartcred.ErrDenied]: Secrets Manager's,
// the hook's or the endpoint's answer. [smartcred.ErrUnavailable]: try again.
// [ErrRefused]: the server does not take the new secret. [StoreError]: the error
// is Secrets Manager's. Each says what to do next. None holds a secret, a token,
// or a word of what AWS, a hook or a registration answered; what an authorization
// server says of a test is package smartauth's to clean.
//
// # Concurrency
//
// All types are safe for concurrent use. Two rotations of one secret at a time
// end in an error for one of them, or do the same work twice. No goroutine
// outlives a call.
//
// # Sources
//
// AWS Secrets Manager User Guide, "Rotation by Lambda function"; RFC 7591 and
// RFC 7592 (dynamic client registration and its management).
package secretrotator
