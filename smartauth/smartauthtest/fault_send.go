package smartauthtest

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// send writes ans as the fault that struck, if one did, shapes it.
func (s *Server) send(w http.ResponseWriter, x *exchange, ans *answer) {
	f := x.shape
	dropped := f != nil && f.Drop
	s.log.update(func() {
		x.entry.Fault, x.entry.Error, x.entry.Reason = ans.fault, ans.errno, ans.reason
		if !dropped {
			x.entry.Status = ans.status
		}
	})
	if f == nil {
		s.write(w, ans)
		return
	}
	if dropped {
		panic(http.ErrAbortHandler)
	}
	if f.Handler != nil {
		s.writeHeader(w, f.Header)
		rec := &statusRecorder{ResponseWriter: w, record: func(status int) {
			s.log.update(func() { x.entry.Status = status })
		}}
		x.Request.Body = io.NopCloser(bytes.NewReader(x.body))
		f.Handler.ServeHTTP(rec, x.Request)
		return
	}
	for name, values := range f.Header {
		ans.header[http.CanonicalHeaderKey(name)] = values
	}
	if f.Drip == 0 && f.Truncate == 0 && f.Stream == 0 {
		s.write(w, ans)
		return
	}
	s.writeHeader(w, ans.header)
	if f.Stream == 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(ans.body)))
	}
	w.WriteHeader(ans.status)
	s.trickle(w, x, f, ans.body)
}

func (s *Server) trickle(w http.ResponseWriter, x *exchange, f *Fault, body []byte) {
	flush := http.NewResponseController(w).Flush
	if f.Stream != 0 {
		if len(body) == 0 {
			body = []byte(`{"error":"`)
		}
		filler := bytes.Repeat([]byte("a"), 32<<10)
		for left := f.Stream; left != 0; body = filler {
			chunk := body
			if left > 0 {
				chunk = chunk[:min(int64(len(chunk)), left)]
				left -= int64(len(chunk))
			}
			if !s.drip(w, x, f.Drip, chunk) {
				panic(http.ErrAbortHandler)
			}
		}
		return
	}
	if f.Truncate > 0 && f.Truncate < len(body) {
		s.drip(w, x, f.Drip, body[:f.Truncate])
		_ = flush()
		panic(http.ErrAbortHandler)
	}
	if !s.drip(w, x, f.Drip, body) {
		panic(http.ErrAbortHandler)
	}
}

// drip writes body, byte by byte when there is an interval, and reports whether
// the client took it.
func (s *Server) drip(w http.ResponseWriter, x *exchange, interval time.Duration, body []byte) bool {
	select {
	case <-s.done:
		return false
	default:
	}
	if interval <= 0 {
		_, err := w.Write(body)
		return err == nil
	}
	flush := http.NewResponseController(w).Flush
	for i := range body {
		if !s.pause(x.Context(), interval) {
			return false
		}
		if _, err := w.Write(body[i : i+1]); err != nil || flush() != nil {
			return false
		}
	}
	return true
}

// A statusRecorder logs the status before the client can see it.
type statusRecorder struct {
	http.ResponseWriter
	once   sync.Once
	record func(status int)
}

func (r *statusRecorder) WriteHeader(status int) {
	r.once.Do(func() { r.record(status) })
	r.ResponseWriter.WriteHeader(status)
}

func (r *statusRecorder) Write(p []byte) (int, error) {
	r.once.Do(func() { r.record(http.StatusOK) })
	return r.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the real writer.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
