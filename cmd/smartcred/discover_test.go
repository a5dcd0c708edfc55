package main

import (
	"crypto/tls"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestDiscover(t *testing.T) {
	w := newWorld(t, nil)
	args := []string{"discover", "--base-url", w.srv.URL, "--allow-insecure-loopback"}
	out := w.run(args...).ok()
	for _, text := range []string{w.srv.URL, "token_endpoint", w.srv.TokenURL, "refresh_token, client_credentials"} {
		if !strings.Contains(out, text) {
			t.Errorf("standard output does not say %q:\n%s", text, out)
		}
	}

	w.srv.SetConfigurationMember("token_endpoint", nil)
	w.srv.SetConfigurationMember("code_challenge_methods_supported", []string{"S256", "plain"})
	w.srv.SetConfigurationMember("x\x1b[2J", map[string]any{"evil": "\x1b]0;title\a\u202e\u009b"})
	out = w.run(args...).ok()
	for _, text := range []string{"Violations of SMART App Launch", "- token_endpoint: missing_required", "- code_challenge_methods_supported: forbidden_value"} {
		if !strings.Contains(out, text) {
			t.Errorf("standard output does not say %q:\n%s", text, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\a\u202e\u009b") {
		t.Errorf("the server's control characters reach the terminal: %q", out)
	}

	doc := decodeJSON[struct {
		BaseURL       string         `json:"base_url"`
		Configuration map[string]any `json:"configuration"`
		Violations    []struct{ Field, Rule string }
	}](t, w.run(append(args, "--json")...).ok())
	if doc.BaseURL != w.srv.URL || doc.Configuration["capabilities"] == nil || len(doc.Violations) < 2 {
		t.Errorf("--json: %+v", doc)
	}
}

func TestDiscoverWithoutViolations(t *testing.T) {
	w := newWorld(t, &smartauthtest.Options{TLS: true})
	w.write("ca.pem", rootOf(t, w.srv.URL))
	args := []string{"discover", "--base-url", w.srv.URL, "--ca-file", "ca.pem"}
	if out := w.run(args...).ok(); !strings.Contains(out, "No violations") {
		t.Errorf("violations of a server that has none:\n%s", out)
	}
	doc := decodeJSON[map[string]any](t, w.run(append(args, "--json")...).ok())
	if violations, ok := doc["violations"].([]any); !ok || len(violations) != 0 {
		t.Errorf("violations is %v, want an empty list", doc["violations"])
	}
}

func TestDiscoverFails(t *testing.T) {
	w := newWorld(t, &smartauthtest.Options{TLS: true})
	w.run("discover").fails(exitUsage, "base_url: is missing")
	w.run("discover", "--base-url", "http://fhir.example.com").fails(exitUsage, "base_url: is http")
	w.run("discover", "--base-url", w.srv.URL).fails(exitServer, "unknown authority", "ca_file")

	w.write("ca.pem", rootOf(t, w.srv.URL))
	w.write("empty.pem", "no certificate")
	w.run("discover", "--base-url", w.srv.URL, "--ca-file", "empty.pem").fails(exitUsage, "ca_file: has no certificate")
	w.run("discover", "--base-url", w.srv.URL, "--ca-file", "absent.pem").fails(exitUsage, "ca_file: can't be read")
	w.srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Status: http.StatusOK, Body: "<html>a portal</html>"})
	w.run("discover", "--base-url", w.srv.URL, "--ca-file", "ca.pem").fails(exitServer, "HTTP 200 text/html")
}

// rootOf is the certificate that a server shows, in PEM.
func rootOf(t *testing.T, url string) string {
	t.Helper()
	conn, err := new(tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", strings.Split(url, "/")[2])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	certs := conn.(*tls.Conn).ConnectionState().PeerCertificates
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs[0].Raw}))
}
