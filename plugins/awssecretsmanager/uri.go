package awssecretsmanager

import (
	"context"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/awsclient"
	"github.com/smartcred/smartcred/secretsource"
)

// Scheme is the scheme of the package's URIs.
const Scheme = "awssecretsmanager"

func init() { secretsource.Register(Scheme, open) }

func open(ctx context.Context, u *url.URL, opts *secretsource.OpenOptions) (secretsource.Source, error) {
	query, err := secretsource.CheckQuery(u, "region", "profile")
	if err != nil {
		return nil, err
	}
	if u.Opaque != "" || u.Host != "" || u.User != nil || len(u.Path) < 2 {
		return nil, &smartcred.ConfigError{Problem: "not of the form awssecretsmanager:///NAME, with three slashes: NAME is a secret's name or ARN"}
	}
	name := u.Path[1:]
	if err := checkName(name); err != nil {
		return nil, err
	}
	cfg, closeIdle, err := awsclient.Load(ctx, awsclient.Options{
		Region: query.Get("region"), Profile: query.Get("profile"), Default: regionOf(name), InsecureTLS: opts.InsecureBackendTLS,
	})
	if err != nil {
		return nil, err
	}
	client := secretsmanager.NewFromConfig(cfg)
	o := client.Options()
	if err := awsclient.CheckEndpoint(o.BaseEndpoint, o.EndpointOptions.UseFIPSEndpoint, o.EndpointOptions.UseDualStackEndpoint, opts.AllowInsecureLoopback); err != nil {
		return nil, err
	}
	s, err := New(client, name, nil)
	if err != nil {
		return nil, err
	}
	s.closing = closeIdle
	if u.Fragment != "" {
		return secretsource.Field(s, u.Fragment), nil
	}
	return s, nil
}
