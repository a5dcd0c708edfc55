package smartauthtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
)

// Transport returns a RoundTripper that calls the server's handler directly,
// whatever the host of the request. After [Server.Close] it fails. See
// [HandlerTransport].
func (s *Server) Transport() http.RoundTripper {
	return &memory{handler: s.Handler(), done: s.done}
}

// HandlerTransport returns a RoundTripper that calls h directly, without a
// network: for a client's JWK Set in [Options.HTTPClient], say. Each request
// runs on its own goroutine; the answer's body streams. The context and the
// closing of the body end it, as a cut connection would: h sees its request's
// context cancelled. When h panics with [http.ErrAbortHandler] the client sees
// a cut connection.
func HandlerTransport(h http.Handler) http.RoundTripper { return &memory{handler: h} }

type memory struct {
	handler http.Handler
	done    <-chan struct{} // nil: never
}

// errCut is what a client sees of a connection that the server cut.
var errCut = fmt.Errorf("smartauthtest: connection cut: %w", io.ErrUnexpectedEOF)

// RoundTrip implements [http.RoundTripper].
func (m *memory) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-m.done:
		closeBody(req)
		return nil, errors.New("smartauthtest: server closed")
	default:
	}
	ctx, cancel := context.WithCancel(req.Context())
	w := &memoryWriter{noBody: req.Method == http.MethodHead, header: make(http.Header), ready: make(chan struct{})}
	w.reader, w.pipe = io.Pipe()
	go func() {
		defer cancel()
		defer closeBody(req)
		// Whoever reads the body must learn that the request was given up.
		stop := context.AfterFunc(ctx, func() { w.pipe.CloseWithError(context.Cause(ctx)) })
		defer stop()
		if m.done != nil {
			go m.watch(ctx, w, cancel)
		}
		defer func() {
			if v := recover(); v != nil {
				if v != http.ErrAbortHandler {
					panic(v)
				}
				w.abort()
			}
		}()
		m.handler.ServeHTTP(w, serverRequest(ctx, req))
		w.finish()
	}()
	select {
	case <-w.ready:
	case <-req.Context().Done():
		cancel()
		return nil, context.Cause(req.Context())
	case <-m.done:
		cancel()
		return nil, errCut
	}
	if w.err != nil {
		cancel()
		return nil, w.err
	}
	resp := &http.Response{
		Status:     fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)),
		StatusCode: w.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        w.sent,
		ContentLength: w.length,
		Body:          &memoryBody{PipeReader: w.reader, cancel: cancel},
		Request:       req,
	}
	if req.URL.Scheme == "https" {
		resp.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: req.URL.Hostname()}
	}
	return resp, nil
}

// watch cuts the connection when the server closes.
func (m *memory) watch(ctx context.Context, w *memoryWriter, cancel context.CancelFunc) {
	select {
	case <-m.done:
		w.pipe.CloseWithError(errCut)
		cancel()
	case <-ctx.Done():
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// serverRequest is req as a server would read it from a connection.
func serverRequest(ctx context.Context, req *http.Request) *http.Request {
	in := req.Clone(ctx)
	in.URL = &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery, ForceQuery: req.URL.ForceQuery}
	if in.URL.Path == "" {
		in.URL.Path = "/"
	}
	in.RequestURI = in.URL.RequestURI()
	if in.Host == "" {
		in.Host = req.URL.Host
	}
	if in.Header == nil {
		in.Header = make(http.Header)
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	if user := req.URL.User; user != nil && in.Header.Get("Authorization") == "" {
		password, _ := user.Password()
		in.SetBasicAuth(user.Username(), password)
	}
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	in.RemoteAddr = "127.0.0.1:1"
	return in
}

// A memoryWriter is used by the handler's goroutine only, until ready is closed.
type memoryWriter struct {
	header http.Header
	pipe   *io.PipeWriter
	reader *io.PipeReader

	once   sync.Once
	ready  chan struct{}
	status int
	sent   http.Header
	length int64
	err    error
	left   int64 // of Content-Length; -1 if there is none
	noBody bool
}

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent, w.length, w.left = status, w.header.Clone(), -1, -1
		w.noBody = w.noBody || status == http.StatusNoContent || status == http.StatusNotModified
		var n int64
		if _, err := fmt.Sscan(w.sent.Get("Content-Length"), &n); err == nil {
			w.length, w.left = n, n
		}
		if w.noBody {
			w.left = -1
		}
		close(w.ready)
	})
}

func (w *memoryWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.noBody {
		return len(p), nil
	}
	if w.left >= 0 {
		if int64(len(p)) > w.left {
			return 0, http.ErrContentLength
		}
		w.left -= int64(len(p))
	}
	return w.pipe.Write(bytes.Clone(p))
}

// Flush implements [http.Flusher].
func (w *memoryWriter) Flush() { w.WriteHeader(http.StatusOK) }

func (w *memoryWriter) finish() {
	w.WriteHeader(http.StatusOK)
	if w.left > 0 {
		w.pipe.CloseWithError(io.ErrUnexpectedEOF)
		return
	}
	w.pipe.Close()
}

func (w *memoryWriter) abort() {
	w.once.Do(func() { w.err = errCut; close(w.ready) })
	w.pipe.CloseWithError(io.ErrUnexpectedEOF)
}

type memoryBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

// Close ends the handler, as a client that hangs up does.
func (b *memoryBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
