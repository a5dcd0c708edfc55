package main

import (
	"context"
	"crypto/x509"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
)

var (
	packages = regexp.MustCompile(`(^|: |; )(?:(?:smartcred|smartauth|provider|rotation|signer|secretsource|program): )+`)
	imported = regexp.MustCompile(`: import [^ ;]+; it has |\(import [^ )]+\)`)
)

// plainText is an error for people at a terminal, to whom the names of Go
// packages say nothing.
func plainText(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	option := ""
	if problems := configProblems(err); len(problems) == 1 && problems[0].Option != "" && problems[0].Error() == err.Error() {
		option = problems[0].Option + ": " // signer is an option too
		text = strings.TrimPrefix(text, option)
	}
	text = packages.ReplaceAllString(text, "$1")
	text = strings.Join(slices.Compact(strings.Split(text, ": ")), ": ") // each layer says what it was doing
	text = imported.ReplaceAllStringFunc(strings.ReplaceAll(text, "this program was built without it", "it is not in this build"), func(s string) string {
		if strings.HasPrefix(s, "(") {
			return "(not in this build)"
		}
		return ", which has "
	})
	return option + text
}

// nextStep says in one line what to do about err.
func nextStep(command string, err error) string {
	var unknownAuthority x509.UnknownAuthorityError
	var answer *provider.TokenError
	var everyRefused *provider.RefusedError
	is := func(target error) bool { return errors.Is(err, target) }
	switch exitStatus(err) {
	case exitUsage:
		return command + " --help lists the options"
	case exitRefused:
		switch {
		case errors.As(err, &everyRefused) && (everyRefused.BudgetSpent || len(everyRefused.Attempts) == 0):
			return "smartcred rotation status says what was refused and until when; smartcred rotation reset forgets it"
		case is(provider.ErrInvalidClient):
			return "compare client_id and the registered secret or key with what is sent: smartcred token --verbose, smartcred jwks"
		case is(provider.ErrInvalidScope):
			return "ask for scopes that this client may have; smartcred discover shows scopes_supported"
		case is(provider.ErrUnauthorizedClient), is(provider.ErrUnsupportedGrantType):
			return "have client_credentials allowed for this client at the server"
		default:
			return "smartcred token --verbose shows what was sent and answered"
		}
	case exitBackend:
		switch {
		case is(smartcred.ErrNotFound):
			return "check the reference in secret or signer: what it names is not there"
		case is(smartcred.ErrDenied):
			return "give this user the right to read or use what secret or signer names"
		default:
			return "check that the backend of secret or signer can be reached, then try again"
		}
	}
	switch {
	case errors.As(err, &unknownAuthority):
		return "if the server's certificate is from an authority of your own, name its PEM file in ca_file"
	case is(smartauth.ErrEndpointNotAllowed):
		return "compare smartcred discover with what the server's operator says; allowed_auth_hosts allows other hosts"
	case errors.As(err, &answer):
		return "the server is in trouble or asks for patience: try again later"
	case is(context.DeadlineExceeded):
		return "check that the server can be reached, or raise timeout"
	default:
		return "check base_url, token_endpoint and the network; smartcred discover shows what the server says of itself"
	}
}
