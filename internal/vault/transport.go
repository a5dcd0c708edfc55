package vault

import (
	"errors"
	"io"
	"net"
	"net/http"
)

// maxBody is the most of an answer that is read.
const maxBody = 1 << 20

var (
	errPlaintext = errors.New("http is for loopback only, and only where allow_insecure_loopback says so")
	errTooLong   = errors.New("the answer is over 1 MiB")
)

// guarded is what smartcred's own clients send through: nothing leaves in plain
// text, redirects by a standby included, and answers have a bound.
type guarded struct {
	base          http.RoundTripper
	allowLoopback bool
}

// RoundTrip implements [http.RoundTripper].
func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !(g.allowLoopback && isLoopback(req.URL.Hostname())) {
		return nil, errPlaintext
	}
	resp, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: maxBody}
	return resp, nil
}

// CloseIdleConnections is found by [http.Client.CloseIdleConnections].
func (g *guarded) CloseIdleConnections() {
	if c, ok := g.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

type bounded struct {
	io.ReadCloser
	left int
}

// Read implements [io.Reader].
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
