package awskms_test

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsfake"
	"github.com/smartcred/smartcred/plugins/awskms"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

var loopback = secretsource.OpenOptions{AllowInsecureLoopback: true, Observer: smartcred.Discard}

func TestURIsThatAreRefused(t *testing.T) {
	start(t, nil)
	for uri, says := range map[string]string{
		"awskms:alias/smart":                         "three slashes",
		"awskms://alias/smart":                       "three slashes",
		"awskms:///":                                 "three slashes",
		"awskms://user:hunter2@/alias/smart":         "three slashes",
		"awskms:///alias/smart#field":                "no fields",
		"awskms:///alias/smart?regoin=x":             "known are region, next, previous, profile",
		"awskms:///alias/smart?region=evil.example/": "not the name of an AWS region",
		"awskms:///alias/smart?next=":                "next: not a KMS key",
		"awskms:///alias/smart?next=a,,b":            "next: not a KMS key",
		"awskms:///alias/smart?previous=h%20unter2":  "previous: not a KMS key",
		"awskms:///alias/hunter2%21":                 "key: not a KMS key",
		"awskms:///arn:aws:s3:::hunter2":             "key: not a KMS key",
		"awskms:///alias/smart?profile=hunter2":      "profile",
	} {
		_, err := signer.Open(t.Context(), uri, &signer.OpenOptions{OpenOptions: loopback})
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "unter2") {
			t.Errorf("%s: got %v, want one that says %q", uri, err, says)
		}
	}
}

func TestEndpointsThatAreRefused(t *testing.T) {
	aws := start(t, nil)
	for endpoint, says := range map[string]string{
		aws.URL:                          "allow_insecure_loopback",
		"http://kms.example.com":         "on loopback only",
		"ftp://127.0.0.1":                "not https",
		"https://user:pass@example.com/": "holds a user",
		"nonsense":                       "not an absolute URL",
	} {
		for _, variable := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"} {
			t.Run(variable+" "+endpoint, func(t *testing.T) {
				t.Setenv("AWS_ENDPOINT_URL", "")
				t.Setenv(variable, endpoint)
				_, err := signer.Open(t.Context(), "awskms:///alias/smart", &signer.OpenOptions{
					OpenOptions: secretsource.OpenOptions{AllowInsecureLoopback: endpoint != aws.URL},
				})
				if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), says) {
					t.Errorf("got %v, want one that says %q", err, says)
				}
			})
		}
	}
}

func TestRegionIsNeeded(t *testing.T) {
	aws := start(t, nil)
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	if _, err := signer.Open(t.Context(), "awskms:///alias/smart", &signer.OpenOptions{OpenOptions: loopback}); !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("got %v", err)
	}
	arn := aws.CreateKey(awsfake.Key{Region: "us-west-2"})
	aws.SetAlias("alias/smart", arn)
	for _, uri := range []string{"awskms:///" + arn, "awskms:///alias/smart?region=us-west-2"} {
		s := open(t, uri, smartcred.Discard)
		closeAtEnd(t, s)
		if got := versions(t, s); got != arn {
			t.Errorf("%s lists %s", uri, got)
		}
	}
}

func TestTLS(t *testing.T) {
	aws := start(t, &awsfake.Options{TLS: true})
	arn := aws.CreateKey(awsfake.Key{})
	for insecure, want := range map[bool]error{false: smartcred.ErrUnavailable, true: nil} {
		s, err := signer.Open(t.Context(), "awskms:///"+arn, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{InsecureBackendTLS: insecure}})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		if _, err := s.Keys(t.Context()); !errors.Is(err, want) {
			t.Errorf("insecure_backend_tls %v: got %v, want %v", insecure, err, want)
		}
	}
}

// The SDK takes the bundle into the client that it is given.
func TestCABundle(t *testing.T) {
	aws := start(t, &awsfake.Options{TLS: true})
	arn := aws.CreateKey(awsfake.Key{})
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, bundle, string(aws.CertificatePEM()))
	t.Setenv("AWS_CA_BUNDLE", bundle)
	s, err := signer.Open(t.Context(), "awskms:///"+arn, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s)
	if err := sign(t, s, arn); err != nil {
		t.Error(err)
	}
}

func TestNewSaysAllThatIsWrong(t *testing.T) {
	_, err := awskms.New(nil, "", &awskms.Options{Next: []string{"!"}, Previous: []string{"?"}, Algorithm: "HS256"})
	for _, says := range []string{"client: ", "key: ", "next: ", "previous: ", "algorithm: "} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want one that says %s", err, says)
		}
	}
}

func FuzzURI(f *testing.F) {
	for _, uri := range []string{
		"awskms:///alias/smart?region=eu-central-1&next=a,b&previous=c", "awskms:///arn:aws:kms:eu-central-1:111122223333:key/1234-ab",
		"awskms:///arn:aws-us-gov:kms:us-gov-west-1:111122223333:alias/a/b", "awskms:////", "awskms:x", "awskms:///%00?next=%2C",
	} {
		f.Add(uri)
	}
	f.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	f.Setenv("AWS_REGION", awsfake.Region)
	f.Fuzz(func(t *testing.T, uri string) {
		s, err := signer.Open(t.Context(), uri, &signer.OpenOptions{OpenOptions: loopback})
		if err != nil {
			if u, bad := url.Parse(uri); bad == nil && u.Scheme == awskms.Scheme && !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Errorf("%q: got %v", uri, err)
			}
			return
		}
		if k, ok := s.(*awskms.Signer); ok {
			k.Close()
		}
	})
}
