package awskms_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
)

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stsThatAnswers starts an STS that knows one error, and returns its URL. STS
// speaks another protocol than KMS: XML.
func stsThatAnswers(t *testing.T, code string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		w.Header().Set("Content-Type", "text/xml")
		status := http.StatusForbidden
		if code == "ServiceUnavailable" {
			status = http.StatusServiceUnavailable
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>`, code, r.Form.Get("WebIdentityToken"))
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}
