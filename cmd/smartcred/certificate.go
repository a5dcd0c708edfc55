package main

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/securefile"
)

// rereadCertificate is how often the files of a certificate are looked at.
const rereadCertificate = time.Minute

// A certificate is a server's certificate from files that are replaced now and
// then, as renewals do.
type certificate struct {
	cert, key string

	mu   sync.Mutex
	now  *tls.Certificate
	read time.Time
}

func newCertificate(ctx context.Context, cert, key string) (*certificate, error) {
	c := &certificate{cert: cert, key: key}
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) load(ctx context.Context) error {
	c.read = time.Now()
	cert, err := securefile.Read(ctx, c.cert, securefile.Options{})
	if err != nil {
		return &smartcred.ConfigError{Option: "--tls-cert", Problem: "can't be read", Err: err}
	}
	key, err := securefile.Read(ctx, c.key, securefile.Options{Private: true})
	if err != nil {
		return &smartcred.ConfigError{Option: "--tls-key", Problem: "can't be read", Err: err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return &smartcred.ConfigError{Option: "--tls-cert", Problem: "and --tls-key are no pair of certificate and key in PEM", Err: err}
	}
	c.now = &pair
	return nil
}

// get implements [tls.Config].GetCertificate. Files that can't be used, half
// replaced perhaps, leave the last good certificate in use.
func (c *certificate) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= rereadCertificate {
		// The visitor may be gone before the files are read; the next one is not.
		_ = c.load(context.WithoutCancel(hello.Context()))
	}
	return c.now, nil
}
