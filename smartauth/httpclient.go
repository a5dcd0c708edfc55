package smartauth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
)

// maxBody is the most that is read of any answer of an authorization server.
const maxBody = 1 << 20

// maxRedirects is how many redirects a request that may follow any follows.
const maxRedirects = 5

// defaultTransport serves every client that brings no *http.Client: many
// clients share its connections.
var defaultTransport = sync.OnceValue(func() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.MaxResponseHeaderBytes = 64 << 10
	t.MaxIdleConnsPerHost = 16
	return t
})

// transportOf returns the caller's transport, or the shared one.
func transportOf(caller *http.Client) http.RoundTripper {
	if caller == nil || caller.Transport == nil {
		return defaultTransport()
	}
	return caller.Transport
}

// checkTransport refuses a transport that would speak less than TLS 1.2, or to
// anyone.
func checkTransport(caller *http.Client) error {
	if caller == nil {
		return nil
	}
	t, ok := caller.Transport.(*http.Transport)
	if !ok || t.TLSClientConfig == nil {
		return nil
	}
	c := t.TLSClientConfig
	switch {
	case c.MinVersion != 0 && c.MinVersion < tls.VersionTLS12:
		return errors.New("its transport allows TLS before 1.2: set TLSClientConfig.MinVersion to tls.VersionTLS12")
	case c.InsecureSkipVerify && c.VerifyConnection == nil && c.VerifyPeerCertificate == nil:
		return errors.New("its transport takes any certificate: set TLSClientConfig.RootCAs in place of InsecureSkipVerify")
	}
	return nil
}

// copyClient returns a copy of the caller's client without its cookie jar, that
// never reads more than maxBody and follows redirects on one origin only.
func copyClient(caller *http.Client) *http.Client {
	client := &http.Client{Transport: cappedTransport{transportOf(caller)}, CheckRedirect: sameOrigin}
	if caller != nil {
		client.Timeout = caller.Timeout
	}
	return client
}

// sameOrigin follows redirects that stay on the origin of the first request.
func sameOrigin(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errTooManyRedirects
	}
	if origin(req.URL) != origin(via[0].URL) {
		return http.ErrUseLastResponse
	}
	return nil
}

// cappedTransport cuts every body off at maxBody, so that code that reads to the
// end can't be made to read for ever.
type cappedTransport struct{ base http.RoundTripper }

func (t cappedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.TLS != nil && resp.TLS.Version < tls.VersionTLS12 {
		resp.Body.Close()
		return nil, errOldTLS
	}
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: maxBody}
	return resp, nil
}

var (
	errBodyTooLarge     = fmt.Errorf("answer is over %d bytes", maxBody)
	errTooManyRedirects = fmt.Errorf("more than %d redirects", maxRedirects)
	errOldTLS           = errors.New("server speaks TLS before 1.2")
)

type cappedBody struct {
	io.ReadCloser
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more tells a body of exactly maxBody from a longer one.
		if n, err := b.ReadCloser.Read(make([]byte, 1)); n == 0 {
			return 0, err
		}
		return 0, errBodyTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// checkURL refuses what credentials must not be sent to. Its error never holds
// the URL, which may have a password in it.
func checkURL(raw string, insecureLoopback bool) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || !u.IsAbs() || u.Host == "" || u.Hostname() == "":
		return errors.New("is no absolute URL")
	case u.User != nil:
		return errors.New("has a user name or password in it; credentials have their own options")
	case u.Fragment != "":
		return errors.New("has a fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme != "http":
		return errors.New("is not https")
	case !isLoopback(u.Hostname()):
		return errors.New("is http; only https is used, but for loopback addresses where that is allowed")
	case !insecureLoopback:
		return errors.New("is http on loopback; allow_insecure_loopback allows it, for tests")
	}
	return nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// origin is a URL's scheme, host and port, RFC 6454.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme) + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
