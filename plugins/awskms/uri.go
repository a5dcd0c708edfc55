package awskms

import (
	"context"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// Scheme is the scheme of the package's URIs.
const Scheme = "awskms"

func init() { signer.Register(Scheme, open) }

func open(ctx context.Context, u *url.URL, opts *signer.OpenOptions) (signer.Signer, error) {
	query, err := secretsource.CheckQuery(u, "region", "next", "previous", "profile")
	if err != nil {
		return nil, err
	}
	switch {
	case u.Fragment != "":
		return nil, &smartcred.ConfigError{Problem: "a key has no fields: # belongs to secrets' URIs"}
	case u.Opaque != "" || u.Host != "" || u.User != nil || len(u.Path) < 2:
		return nil, &smartcred.ConfigError{Problem: "not of the form awskms:///KEY, with three slashes: KEY is an id, an ARN, alias/NAME or an alias' ARN"}
	}
	key := u.Path[1:]
	if err := checkName("key", key); err != nil {
		return nil, err
	}
	cfg, closeIdle, err := awsclient.Load(ctx, awsclient.Options{
		Region: query.Get("region"), Profile: query.Get("profile"), Default: regionOf(key),
		InsecureTLS: opts.InsecureBackendTLS,
	})
	if err != nil {
		return nil, err
	}
	client := kms.NewFromConfig(cfg)
	o := client.Options()
	if err := awsclient.CheckEndpoint(o.BaseEndpoint, o.EndpointOptions.UseFIPSEndpoint, o.EndpointOptions.UseDualStackEndpoint, opts.AllowInsecureLoopback); err != nil {
		return nil, err
	}
	s, err := New(client, key, &Options{
		Next: namesOf(query, "next"), Previous: namesOf(query, "previous"), Algorithm: opts.Algorithm, Observer: opts.Observer,
	})
	if err != nil {
		return nil, err
	}
	s.closing = closeIdle
	return s, nil
}

// namesOf splits a list. An option without a value names one key that is empty,
// which New refuses.
func namesOf(query url.Values, option string) []string {
	if !query.Has(option) {
		return nil
	}
	return strings.Split(query.Get(option), ",")
}

// regionOf returns the region of an ARN; empty for other names.
func regionOf(name string) string {
	if parts := strings.SplitN(name, ":", 6); len(parts) == 6 {
		return parts[3]
	}
	return ""
}
