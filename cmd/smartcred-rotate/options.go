package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
)

// settings are what flags and environment say.
type settings struct {
	secretID, step, version string
	field                   string
	length                  int
	region                  string

	clientID, baseURL, tokenEndpoint string
	scopes                           []string
	test, authMethod, secretEncoding string

	hook, hookToken string
	sendCurrent     bool

	registration, noOverlap bool
	overlap                 time.Duration

	caFile                string
	timeout               time.Duration
	allowInsecureLoopback bool
}

func (s *settings) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("smartcred-rotate", pflag.ContinueOnError)
	f.SortFlags = false
	f.Usage = func() {}
	f.StringVar(&s.secretID, "secret-id", "", "the secret's name or ARN")
	f.StringVar(&s.step, "step", "", "one step only: createSecret, setSecret, testSecret or finishSecret")
	f.StringVar(&s.version, "version-id", "", "the version for --step (default: the one staged AWSPENDING)")
	f.StringVar(&s.field, "field", "", "the member of the JSON value that holds the client secret (default: the value is the secret alone)")
	f.IntVar(&s.length, "length", 43, "how many characters a new secret has")
	f.StringVar(&s.region, "region", "", "the AWS region (default: from AWS's own environment)")

	f.StringVar(&s.hook, "hook", "", "the https URL that the new secret is posted to")
	f.StringVar(&s.hookToken, "hook-token", "", "where the hook's Bearer token is kept: awssecretsmanager:///NAME, env:NAME or file:PATH")
	f.BoolVar(&s.sendCurrent, "hook-send-current", false, "post the current secret too")
	f.BoolVar(&s.registration, "registration", false, "have the server issue the secret at its client configuration endpoint, RFC 7592")
	f.DurationVar(&s.overlap, "overlap", 0, "for --registration: how long the server takes the old secret beside the new one")
	f.BoolVar(&s.noOverlap, "no-overlap", false, "for --registration: accept that the server ends the old secret at once")

	f.StringVar(&s.test, "test", string(secretrotator.TestToken), "how the new secret is tested: token, introspection or unauthorized_client")
	f.StringVar(&s.clientID, "client-id", "", "the client_id registered at the server")
	f.StringVar(&s.baseURL, "base-url", "", "the server's FHIR base URL")
	f.StringVar(&s.tokenEndpoint, "token-endpoint", "", "stated instead of discovered")
	f.StringSliceVar(&s.scopes, "scopes", nil, "what the token of the test is asked for, such as system/*.rs")
	f.StringVar(&s.authMethod, "auth-method", "client_secret_basic", "client_secret_basic or client_secret_post")
	f.StringVar(&s.secretEncoding, "secret-encoding", "rfc6749", "how HTTP Basic encodes id and secret: rfc6749 or raw")

	f.StringVar(&s.caFile, "ca-file", "", "PEM file of certificate authorities to trust besides the system's; for AWS: AWS_CA_BUNDLE")
	f.DurationVar(&s.timeout, "timeout", 2*time.Minute, "bounds the command as a whole")
	f.BoolVar(&s.allowInsecureLoopback, "allow-insecure-loopback", false, "allow http, on loopback only, for servers and AWS alike")
	return f
}

// variable is the environment variable that stands for a flag.
func variable(flag string) string {
	return "SMARTCRED_ROTATE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// perRun are flags that say what to do in one run: no environment sets them.
var perRun = []string{"step", "version-id"}

// parse reads flags, and the environment for those that are not given. Its errors
// hold no value: it may be a secret in the wrong place.
func parse(args []string, getenv func(string) string) (*settings, error) {
	s := new(settings)
	f := s.flags()
	if err := f.Parse(args); err != nil {
		return nil, flagError(err)
	}
	if f.NArg() > 0 {
		return nil, &smartcred.ConfigError{Problem: "there is a word that belongs to no flag: values follow their flag, booleans take =true or =false"}
	}
	var problems []error
	f.VisitAll(func(flag *pflag.Flag) {
		name := variable(flag.Name)
		value := getenv(name)
		if flag.Changed || value == "" || slices.Contains(perRun, flag.Name) {
			return
		}
		if f.Set(flag.Name, value) != nil {
			problems = append(problems, &smartcred.ConfigError{Option: name, Problem: "has a value that is no " + flag.Value.Type()})
		}
	})
	return s, errors.Join(problems...)
}

var plainName = regexp.MustCompile(`^[a-z][a-z-]{0,31}$`)

func flagError(err error) error {
	var unknown *pflag.NotExistError
	var noValue *pflag.ValueRequiredError
	var wrong *pflag.InvalidValueError
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &unknown) && plainName.MatchString(unknown.GetSpecifiedName()):
		return &smartcred.ConfigError{Option: "--" + unknown.GetSpecifiedName(), Problem: "unknown flag; --help lists all"}
	case errors.As(err, &noValue):
		return &smartcred.ConfigError{Option: "--" + noValue.GetSpecifiedName(), Problem: "has no value"}
	case errors.As(err, &wrong):
		return &smartcred.ConfigError{Option: "--" + wrong.GetFlag().Name, Problem: "has a value that is no " + wrong.GetFlag().Value.Type()}
	default:
		return &smartcred.ConfigError{Problem: "a flag is unknown or malformed: they are written --name value or --name=value; --help lists all"}
	}
}

func usage() string {
	return fmt.Sprintf(`Smartcred-rotate changes a client secret that AWS Secrets Manager keeps. In AWS
Lambda it is the rotation function, and takes environment variables for flags:
%s for --base-url.

Usage:
  smartcred-rotate --secret-id NAME [flags]

Flags:
%s
Exit status:
  0 done; 2 usage or configuration; 3 the server refuses the new secret;
  4 Secrets Manager or the source of the hook's token failed;
  5 the hook, the registration or the authorization server failed
`, variable("base-url"), new(settings).flags().FlagUsages())
}
