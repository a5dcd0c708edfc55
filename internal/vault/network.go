package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// A networkCause is a reason for no answer that can be told as it is.
type networkCause struct {
	is   func(error) bool
	text func(error) string
}

func cause(is func(error) bool, text string) networkCause {
	return networkCause{is, func(error) string { return text }}
}

func sentinel(target error, text string) networkCause {
	return cause(func(err error) bool { return errors.Is(err, target) }, text)
}

// networkCauses are looked at in order.
var networkCauses = []networkCause{
	sentinel(errPlaintext, errPlaintext.Error()),
	cause(isOp("proxyconnect"), "the proxy that VAULT_PROXY_ADDR or HTTPS_PROXY names does not answer"),
	sentinel(context.DeadlineExceeded, "no answer in time"),
	sentinel(os.ErrDeadlineExceeded, "no answer in time"),
	sentinel(syscall.ECONNREFUSED, "connection refused"),
	sentinel(syscall.ECONNRESET, "connection reset"),
	sentinel(syscall.EPIPE, "connection closed"),
	sentinel(io.ErrUnexpectedEOF, "connection closed in the middle of the answer"),
	sentinel(io.EOF, "connection closed"),
	{is: as[*net.DNSError], text: func(error) string { return "its host name does not resolve" }},
	cause(as[x509.HostnameError], "its certificate is for other names: VAULT_TLS_SERVER_NAME says which to look for"),
	cause(isExpired, "its certificate has expired, or is not valid yet"),
	cause(as[*tls.CertificateVerificationError], "its certificate does not verify: VAULT_CACERT names its authority"),
	cause(as[x509.UnknownAuthorityError], "its certificate does not verify: VAULT_CACERT names its authority"),
	sentinel(http.ErrSchemeMismatch, "it does not speak TLS"),
	cause(as[tls.RecordHeaderError], "it does not speak TLS"),
	// An alert is of a type of crypto/tls's own; only QUIC's is tls.AlertError.
	cause(isOp("remote error"), "it ended the TLS handshake: does it ask for a client certificate?"),
	cause(isTimeout, "no answer in time"),
	cause(as[*net.OpError], "the connection failed"),
}

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func isExpired(err error) bool {
	var e x509.CertificateInvalidError
	return errors.As(err, &e) && e.Reason == x509.Expired
}

// isOp finds an operation that net/http or crypto/tls names in a [net.OpError].
func isOp(name string) func(error) bool {
	return func(err error) bool {
		var e *net.OpError
		return errors.As(err, &e) && e.Op == name
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
