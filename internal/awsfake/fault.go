package awsfake

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Fault is what goes wrong. Its members apply in the order in which they are
// here.
type Fault struct {
	// Operation is the one it meets, "Sign"; empty: every one.
	Operation string
	// Times is how many requests it meets; 0: all, until it is removed.
	Times int
	// Delay passes before anything else.
	Delay time.Duration
	// Stall gives no answer until the fault is removed or the client goes away.
	Stall bool
	// Header is set in the answer.
	Header http.Header
	// Error is the answer, before the request is looked at.
	Error *Error
	// Answer is too: the body of an answer with status 200.
	Answer string
	// Garble answers with Status (0: 200) and all that was sent, credentials
	// included: in the body, in its __type and message, and in headers.
	Garble bool
	Status int
	// Change alters the members of an answer that is no error.
	Change func(answer map[string]any)
}

type fault struct {
	Fault
	number  int
	removed chan struct{}
}

// Inject makes requests meet f, the first injected one where several match.
func (s *Server) Inject(f Fault) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := &fault{Fault: f, number: s.next, removed: make(chan struct{})}
	s.next++
	s.faults = append(s.faults, in)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = slices.DeleteFunc(s.faults, func(g *fault) bool { return g == in })
		select {
		case <-in.removed:
		default:
			close(in.removed)
		}
	}
}

// Throttle answers the next requests (0: all, until removed) as AWS does above
// its quotas: ThrottlingException with status 400.
func (s *Server) Throttle(operation string, times int) (remove func()) {
	return s.Inject(Fault{Operation: operation, Times: times, Error: &Error{http.StatusBadRequest, "ThrottlingException", "Rate exceeded"}})
}

// fault returns the one that a request meets; nil if none.
func (s *Server) fault(operation string) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Operation != "" && f.Operation != operation {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return f
	}
	return nil
}

// pass reports whether the request goes on to be answered.
func (f *fault) pass(w http.ResponseWriter, r *http.Request, body []byte) bool {
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return false
		}
	}
	if f.Stall {
		select {
		case <-f.removed:
		case <-r.Context().Done():
			return false
		}
	}
	for name, values := range f.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	switch {
	case f.Error != nil:
		writeError(w, f.Error)
	case f.Answer != "":
		_, _ = io.WriteString(w, f.Answer)
	case f.Garble:
		f.garble(w, r, body)
	default:
		return true
	}
	return false
}

func (f *fault) garble(w http.ResponseWriter, r *http.Request, body []byte) {
	var sent strings.Builder
	_ = r.Header.Write(&sent)
	echo := sent.String() + string(body)
	line := strings.Map(func(c rune) rune {
		if c < ' ' || c == '"' || c == '\\' {
			return ' '
		}
		return c
	}, echo)
	w.Header().Set("x-amzn-RequestId", line)
	w.Header().Set("X-Amzn-Errortype", line)
	status := f.Status
	if status == 0 {
		status = http.StatusOK
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"__type":"`+line+`","message":"`+line+`","KeyId":"`+line+`","Signature":"`+line+`"} `+echo)
}
