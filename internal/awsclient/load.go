package awsclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/smartcred/smartcred"
)

// DefaultTimeout bounds a call with all the attempts that the SDK makes.
const DefaultTimeout = 10 * time.Second

const (
	maxBody   = 1 << 20
	maxHeader = 64 << 10
	idlePeers = 100 // connections kept for as many callers
)

// Options are what a URI and the configuration around it say. What they leave
// out is the SDK's to find: environment, profile, web identity, instance role.
type Options struct {
	Region  string // region=
	Profile string // profile=
	// Default is the region where neither Region nor the environment says one.
	Default     string
	InsecureTLS bool
}

// Load returns the SDK's configuration, and what closes the connections that
// clients made of it keep.
func Load(ctx context.Context, o Options) (cfg aws.Config, closeIdle func(), err error) {
	if o.Region != "" && !isRegion(o.Region) {
		return aws.Config{}, nil, &smartcred.ConfigError{Option: "region", Problem: "not the name of an AWS region, such as eu-central-1"}
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = idlePeers
		t.MaxResponseHeaderBytes = maxHeader
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{}
		}
		t.TLSClientConfig.MinVersion = tls.VersionTLS12
		t.TLSClientConfig.InsecureSkipVerify = o.InsecureTLS
	})
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithLogger(logging.Nop{}),
		config.WithAPIOptions([]func(*middleware.Stack) error{awsmiddleware.AddUserAgentKey("smartcred")}),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.Default != "" {
		load = append(load, config.WithDefaultRegion(o.Default))
	}
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	cfg, err = config.LoadDefaultConfig(ctx, load...)
	switch {
	case errors.As(err, new(config.SharedConfigProfileNotExistError)):
		return aws.Config{}, nil, &smartcred.ConfigError{Option: "profile", Problem: "neither AWS's configuration file nor its credentials file has such a profile"}
	case err != nil: // it may quote what it read
		return aws.Config{}, nil, &smartcred.ConfigError{Problem: "the AWS configuration of this process can't be used: run aws configure list as the same user"}
	case !isRegion(cfg.Region):
		return aws.Config{}, nil, &smartcred.ConfigError{Option: "region", Problem: "there is none: add region= to the URI, or set AWS_REGION"}
	}
	// The SDK took AWS_CA_BUNDLE into the transport that it built. A plain client
	// of it can close its connections, and follows no redirect with a signed request.
	transport := cfg.HTTPClient.(*awshttp.BuildableClient).GetTransport()
	cfg.HTTPClient = &http.Client{
		Transport:     capped{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return cfg, transport.CloseIdleConnections, nil
}

var region = regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`)

func isRegion(s string) bool { return len(s) <= 63 && region.MatchString(s) }

// CheckEndpoint refuses an endpoint of the environment or profile (nil: AWS's
// own) that is not https, unless it is http on loopback and that is allowed; and
// one beside fips or dualStack, which the SDK refuses at each call.
func CheckEndpoint(base *string, fips aws.FIPSEndpointState, dualStack aws.DualStackEndpointState, allowLoopback bool) error {
	if base == nil {
		return nil
	}
	u, err := url.Parse(*base)
	wrong := func(problem string) error {
		return &smartcred.ConfigError{Option: "endpoint", Problem: "the one that AWS_ENDPOINT_URL or the profile names " + problem}
	}
	switch {
	case err != nil || u.Host == "":
		return wrong("is not an absolute URL")
	case u.User != nil:
		return wrong("holds a user")
	case fips == aws.FIPSEndpointStateEnabled:
		return wrong("goes with no AWS_USE_FIPS_ENDPOINT: turn that off, and name an endpoint that is a FIPS one")
	case dualStack == aws.DualStackEndpointStateEnabled:
		return wrong("goes with no AWS_USE_DUALSTACK_ENDPOINT: turn that off")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return wrong("is not https")
	case !isLoopback(u.Hostname()):
		return wrong("is http, which is accepted on loopback only")
	case !allowLoopback:
		return wrong("is http: allow_insecure_loopback accepts that on loopback")
	default:
		return nil
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// capped ends answers that are longer than any of AWS's.
type capped struct{ http.RoundTripper }

func (c capped) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}
