package smartauth

import (
	"io"
	"net/http"

	"github.com/smartcred/smartcred/internal/redact"
)

// send sends req with token. net/http quotes what it can't read of an answer, and
// where a redirect leads to, in errors that programs log: neither may hold the
// token, which the server may repeat there.
func (t *transport) send(req *http.Request, token *Token) (*http.Response, error) {
	resp, err := t.base.RoundTrip(withToken(req, token))
	if err != nil {
		return nil, withoutToken(err, token)
	}
	if location := resp.Header.Get("Location"); location != "" && resp.StatusCode >= 300 && resp.StatusCode < 400 {
		resp.Header.Set("Location", redact.New([]byte(token.AccessToken())).Clean(location))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols { // there Body is a Writer too
		resp.Body = &answerBody{ReadCloser: resp.Body, token: token}
	}
	return resp, nil
}

// withoutToken returns err, or another error in its place where it repeats token.
func withoutToken(err error, token *Token) error {
	if cert := certificateError(err); cert != nil {
		return cert
	}
	text := err.Error()
	if redact.New([]byte(token.AccessToken())).Clean(text) == text {
		return err
	}
	return errNotHTTP
}

// answerBody is a body whose errors do not repeat the token: those of chunks and
// trailers quote them.
type answerBody struct {
	io.ReadCloser
	token *Token
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = withoutToken(err, b.token)
	}
	return n, err
}
