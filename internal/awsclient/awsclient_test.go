package awsclient_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
)

// What ended a call is said, not what the SDK makes of it.
func TestErrorsOfCallsThatEnded(t *testing.T) {
	call := awsclient.Call{Action: "kms:Sign", Resource: "alias/smart"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := call.Error(ctx, errors.New("what the SDK says")); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "SDK") {
		t.Errorf("got %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, c := range map[string]struct{ plain, allowed bool }{
		"https://vpce.example.com":   {true, true},
		"https://127.0.0.1":          {true, true},
		"http://localhost:4566":      {false, true},
		"http://[::1]:4566":          {false, true},
		"http://169.254.169.254":     {false, false},
		"http://localhost.evil.test": {false, false},
		"https://user@example.com":   {false, false},
		"localhost:4566":             {false, false},
		"":                           {false, false},
	} {
		for allow, want := range map[bool]bool{false: c.plain, true: c.allowed} {
			err := awsclient.CheckEndpoint(&endpoint, aws.FIPSEndpointStateUnset, aws.DualStackEndpointStateUnset, allow)
			if (err == nil) != want || err != nil && !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Errorf("%q, http allowed on loopback %v: got %v", endpoint, allow, err)
			}
		}
	}
	const fips, dualStack = aws.FIPSEndpointStateEnabled, aws.DualStackEndpointStateEnabled
	if err := awsclient.CheckEndpoint(nil, fips, dualStack, false); err != nil {
		t.Errorf("AWS's own: %v", err)
	}
	endpoint := "https://vpce.example.com"
	if err := awsclient.CheckEndpoint(&endpoint, fips, 0, false); !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "AWS_USE_FIPS_ENDPOINT") {
		t.Errorf("a FIPS endpoint and another: %v", err)
	}
	if err := awsclient.CheckEndpoint(&endpoint, 0, dualStack, false); !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "AWS_USE_DUALSTACK_ENDPOINT") {
		t.Errorf("a dual-stack endpoint and another: %v", err)
	}
}

// Only what looks like AWS's own is shown: a broken proxy may put anything there.
func TestRequestIDs(t *testing.T) {
	const id = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"
	for got, want := range map[string]string{id: id, "": "", "token hunter2": "", id + "\nhunter2": "", "hunter2" + id: ""} {
		if shown := awsclient.RequestIDOf(got); shown != want {
			t.Errorf("%q is shown as %q", got, shown)
		}
	}
}
