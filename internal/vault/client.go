package vault

import (
	"cmp"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

const (
	defaultTimeout = 20 * time.Second
	retryWaitLeast = 100 * time.Millisecond
	retryWaitMost  = 500 * time.Millisecond
)

// newClient makes a client of the address, without a token. What the environment
// says of TLS and time-outs holds for every address, since it is no credential;
// namespace, client certificate and additional headers are VAULT_ADDR's.
func (c *Config) newClient(opts *secretsource.OpenOptions) (*api.Client, error) {
	if err := c.checkTLS(opts); err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	if config.Error != nil { // it can hold paths and PEM, but no key
		return nil, &smartcred.ConfigError{Option: "VAULT_*", Problem: "the environment's TLS or client settings can't be used: check VAULT_CACERT, VAULT_CAPATH, VAULT_CLIENT_CERT, VAULT_CLIENT_KEY, VAULT_CLIENT_TIMEOUT"}
	}
	config.Address, config.AgentAddress, config.SRVLookup = c.Address, "", false
	if os.Getenv(api.EnvVaultClientTimeout) == "" {
		config.Timeout = defaultTimeout
	}
	config.MinRetryWait, config.MaxRetryWait = retryWaitLeast, retryWaitMost
	config.CheckRetry = checkRetry
	transport := config.HttpClient.Transport.(*http.Transport)
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.MaxIdleConnsPerHost = 32 // bursts of signatures keep their connections
	if opts.InsecureBackendTLS {
		transport.TLSClientConfig.InsecureSkipVerify = true
	}
	if !c.ambient {
		transport.TLSClientConfig.GetClientCertificate, transport.TLSClientConfig.Certificates = nil, nil
	}
	config.HttpClient.Transport = &guarded{base: transport, allowLoopback: opts.AllowInsecureLoopback}

	client, err := api.NewClient(config)
	if err != nil {
		return nil, &smartcred.ConfigError{Option: "address", Problem: "no client can be made of it and of the VAULT_ variables"}
	}
	client.ClearToken()
	client.SetWrappingLookupFunc(func(string, string) string { return "" }) // whatever VAULT_WRAP_TTL says
	if !c.ambient {
		client.ClearNamespace()
		client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}}) // without VAULT_HEADERS
	}
	if c.Namespace != "" {
		client.SetNamespace(c.Namespace)
	}
	return client, nil
}

func (c *Config) checkTLS(opts *secretsource.OpenOptions) error {
	if v := os.Getenv(api.EnvVaultSkipVerify); v != "" && !opts.InsecureBackendTLS {
		if skip, err := strconv.ParseBool(v); err != nil || skip {
			return &smartcred.ConfigError{Option: "VAULT_SKIP_VERIFY", Problem: "would send credentials to whoever answers: unset it and name the authority with VAULT_CACERT, or set insecure_backend_tls"}
		}
	}
	u, err := url.Parse(c.Address)
	if err != nil {
		return err
	}
	if u.Scheme == "http" && !(opts.AllowInsecureLoopback && isLoopback(u.Hostname())) {
		return &smartcred.ConfigError{Option: cmp.Or(c.from, "address"), Problem: "is http: " + errPlaintext.Error()}
	}
	return nil
}
