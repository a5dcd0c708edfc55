// Smartcred-rotate changes a client secret that AWS Secrets Manager keeps: by
// hand, or as the rotation function that Secrets Manager calls.
//
//	smartcred-rotate --secret-id smart/my-app --field client_secret --client-id my-app \
//	    --base-url https://ehr.example.org/fhir/r4 --scopes 'system/*.rs' \
//	    --hook https://secrets.example.org/smart --hook-token env:HOOK_TOKEN
//
// It runs Secrets Manager's four steps in order, or with --step one of them. A
// rotation that was begun and not finished is gone on with: after a failure run
// it again. The version id that it worked at goes to standard output, everything
// else to standard error.
//
// In AWS Lambda the same program is the function: build it as "bootstrap" for a
// provided.al2023 runtime. It takes no flags there, but environment variables:
// SMARTCRED_ROTATE_ and a flag's name in capitals, with underscores. Outside of
// Lambda they count too, and flags win. No flag and no variable holds a secret,
// only a reference to where one is kept.
//
// The exit status says who failed:
//
//	0  done
//	2  usage or configuration
//	3  the authorization server refuses the new secret; nothing was finished
//	4  Secrets Manager, or the source of the hook's token, failed
//	5  the hook, the registration or the authorization server failed
//
// A signal that ends it gives 128 and its number, as shells have it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/spf13/pflag"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/interrupt"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
)

func main() {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		os.Exit(serve(context.Background(), os.Getenv, os.Stderr))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the command.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	ctx, stop := interrupt.Context(ctx)
	defer stop()
	version, err := rotate(ctx, args, getenv, slog.New(slog.NewTextHandler(stderr, nil)))
	if errors.Is(err, pflag.ErrHelp) {
		err = nil
		version = strings.TrimSuffix(usage(), "\n")
	}
	if err == nil {
		if _, err = fmt.Fprintln(stdout, version); err == nil {
			return exitDone
		}
		err = &smartcred.ConfigError{Option: "standard output", Problem: "can't be written", Err: err}
	}
	var sig interrupt.Signal
	if errors.As(context.Cause(ctx), &sig) {
		complain(stderr, fmt.Errorf("%w; run it again: it goes on where it was", sig))
		return sig.Status()
	}
	if version != "" {
		err = fmt.Errorf("version %s: %w", version, err)
	}
	complain(stderr, err)
	return exitStatus(err)
}

// rotate runs the steps that args ask for.
func rotate(ctx context.Context, args []string, getenv func(string) string, logger *slog.Logger) (version string, err error) {
	s, err := parse(args, getenv)
	if err != nil {
		return "", err
	}
	if s.secretID == "" {
		return "", &smartcred.ConfigError{Option: "secret-id", Problem: "is missing: the secret's name or ARN"}
	}
	if s.version != "" && s.step == "" {
		return "", &smartcred.ConfigError{Option: "version-id", Problem: "goes with --step only: without it the version staged AWSPENDING is gone on with"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, closeAll, err := s.open(ctx, logger)
	if err != nil {
		return "", err
	}
	defer closeAll()
	if s.step == "" {
		return r.Rotate(ctx, s.secretID)
	}
	return r.RunStep(ctx, secretrotator.Step(s.step), s.secretID, s.version)
}

// serve is the Lambda function. It returns only if it can't begin.
func serve(ctx context.Context, getenv func(string) string, stderr io.Writer) int {
	logger := slog.New(slog.NewJSONHandler(stderr, nil))
	slog.SetDefault(logger)
	s, err := parse(nil, getenv)
	if err == nil {
		var r *secretrotator.Rotator
		if r, _, err = s.open(ctx, logger); err == nil {
			lambda.StartWithOptions(r.Handle, lambda.WithContext(ctx))
		}
	}
	complain(stderr, err)
	return exitStatus(err)
}

// complain writes an error as one line, whatever it holds, for each that was joined.
func complain(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintf(w, "smartcred-rotate: %s\n", strings.Map(printable, line)) // there is nowhere to say that it failed
	}
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}
