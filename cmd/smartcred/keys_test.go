package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smartcred/smartcred/signer"
)

func TestKeygen(t *testing.T) {
	w := newWorld(t, nil)
	for _, test := range []struct {
		name string
		args []string
		bits int // of the modulus; 0 for P-384
	}{
		{"ES384", []string{"--alg", "ES384"}, 0},
		{"RS384", []string{"--alg", "RS384"}, 3072},
		{"RS384, 2048", []string{"--alg", "RS384", "--bits", "2048"}, 2048},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			file := test.name + ".pem"
			path := filepath.Join(w.dir, file)
			r := w.run(append([]string{"keygen", "--out", file}, test.args...)...)
			set := decodeJSON[signer.JWKSet](t, r.ok())
			if len(set.Keys) != 1 || !strings.Contains(r.stderr, "kid "+set.Keys[0].KeyID) {
				t.Fatalf("set %v, standard error %q", set, r.stderr)
			}
			if m := mode(t, path); m != 0o600 {
				t.Errorf("mode %v, want 0600", m)
			}
			block, rest := pem.Decode([]byte(read(t, path)))
			if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
				t.Fatal("the file is not one PKCS #8 PEM block")
			}
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			switch key := key.(type) {
			case *rsa.PrivateKey:
				if key.N.BitLen() != test.bits {
					t.Errorf("%d bits, want %d", key.N.BitLen(), test.bits)
				}
			case *ecdsa.PrivateKey:
				if test.bits != 0 || key.Curve != elliptic.P384() {
					t.Errorf("a key on %s", key.Params().Name)
				}
			default:
				t.Errorf("a %T", key)
			}
			if again := w.run("jwks", "--signer", "file:"+strings.ReplaceAll(file, " ", "%20")).ok(); again != r.stdout {
				t.Errorf("jwks prints another set:\n%s\n%s", again, r.stdout)
			}
		})
	}
}

func TestKeygenNeverOverwrites(t *testing.T) {
	w := newWorld(t, nil)
	path := w.write("key.pem", "an older key")
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").fails(exitUsage, "never overwritten")
	if got := read(t, path); got != "an older key" {
		t.Errorf("the file now holds %q", got)
	}
	if err := os.Symlink("elsewhere", filepath.Join(w.dir, "link")); err != nil {
		t.Fatal(err)
	}
	w.run("keygen", "--alg", "ES384", "--out", "link").fails(exitUsage, "never overwritten")
	if _, err := os.Lstat(filepath.Join(w.dir, "elsewhere")); err == nil {
		t.Error("the link was followed")
	}
	w.run("keygen", "--alg", "ES384", "--out", "absent/key.pem").fails(exitUsage, "--out: the file can't be written")
	w.run("keygen", "--alg", "ES256", "--bits", "1").fails(exitUsage, "--alg: is neither", "--out: is missing")
	w.run("keygen", "--alg", "RS384", "--bits", "1024", "--out", "x").fails(exitUsage, "--bits: is not 2048")
	w.run("keygen", "--alg", "ES384", "--bits", "2048", "--out", "x").fails(exitUsage, "--bits: is for RS384")
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("jwks").fails(exitUsage, "signer: is missing")
	w.run("jwks", "--signer", "file:absent.pem").fails(exitBackend, "absent.pem")
	for _, name := range []string{"key.pem", "key.pem.next", "key.pem.previous"} {
		w.run("keygen", "--alg", "ES384", "--out", name).ok()
	}
	all := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem").ok())
	if len(all.Keys) != 3 {
		t.Fatalf("%d keys, want next, current and previous", len(all.Keys))
	}
	revoked := all.Keys[2].KeyID
	left := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem", "--revoked", revoked).ok())
	if len(left.Keys) != 2 || left.Keys[0].KeyID == revoked || left.Keys[1].KeyID == revoked {
		t.Errorf("the revoked key is published: %v", left)
	}
	allowed := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem", "--allowed-kids", revoked).ok())
	if len(allowed.Keys) != 1 || allowed.Keys[0].KeyID != revoked {
		t.Errorf("allowed_kids leaves %v", allowed)
	}
	w.run("jwks", "--signer", "file:key.pem", "--require-non-exportable").fails(exitUsage, "require_non_exportable")
	w.run("jwks", "--signer", "file:key.pem", "--algorithm", "RS256").fails(exitUsage, "RS256 needs an RSA key")
	w.run("jwks", "--signer", "file:key.pem", "--publish-for", "10m").fails(exitUsage, "publish_for: 10m0s is too short")
}

// serve starts `jwks serve` and returns the URL it says, and how to end it.
func (w *world) serve(args ...string) (url string, end func(os.Signal) *result) {
	w.t.Helper()
	cmd := w.command(append([]string{"jwks", "serve"}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	var stdout strings.Builder
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	var said strings.Builder
	for url == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		_, url, _ = strings.Cut(lines.Text(), "serving the JWK Set at ")
	}
	if url == "" {
		_ = cmd.Wait()
		w.t.Fatalf("it does not serve:\n%s", said.String())
	}
	return url, func(s os.Signal) *result {
		w.t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			w.t.Fatal(err)
		}
		for lines.Scan() {
			said.WriteString(lines.Text() + "\n")
		}
		_ = cmd.Wait() // the status says it
		return &result{t: w.t, args: cmd.Args[1:], stdout: stdout.String(), stderr: said.String(), status: cmd.ProcessState.ExitCode()}
	}
}

func fetch(t *testing.T, client *http.Client, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestServe(t *testing.T) {
	w := newWorld(t, nil)
	set := decodeJSON[signer.JWKSet](t, w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok())
	for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		url, end := w.serve("--signer", "file:key.pem", "--listen", "127.0.0.1:0")
		root := strings.TrimSuffix(url, ".well-known/jwks.json")
		for _, u := range []string{url, root} {
			resp, body := fetch(t, http.DefaultClient, u)
			got := decodeJSON[signer.JWKSet](t, body)
			if resp.StatusCode != 200 || len(got.Keys) != 1 || got.Keys[0] != set.Keys[0] {
				t.Errorf("%s: %s %s", u, resp.Status, body)
			}
		}
		if resp, _ := fetch(t, http.DefaultClient, root+"other"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("other paths: %s", resp.Status)
		}
		if r := end(s); r.ok() != "" {
			t.Errorf("standard output: %q", r.stdout)
		}
	}
}

// A visitor that never finishes its request does not keep the server from ending.
func TestServeEndsDespiteSlowVisitors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	url, end := w.serve("--signer", "file:key.pem", "--listen", "127.0.0.1:0")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.Split(url, "/")[2])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	end(syscall.SIGTERM).ok()
}

func TestServeTLS(t *testing.T) {
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	cert := w.certificate("tls.pem", "tls.key")
	url, end := w.serve("--signer", "file:key.pem", "--listen", "0.0.0.0:0", "--tls-cert", "tls.pem", "--tls-key", "tls.key")
	_, port, err := net.SplitHostPort(strings.Split(url, "/")[2])
	if err != nil || !strings.HasPrefix(url, "https://") {
		t.Fatal(url, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	resp, _ := fetch(t, client, "https://127.0.0.1:"+port+"/")
	if resp.StatusCode != 200 || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("%s", resp.Status)
	}
	client.CloseIdleConnections()
	end(syscall.SIGTERM).ok()
}

func TestServeRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	w.certificate("tls.pem", "tls.key")
	w.certificate("other.pem", "other.key")
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	serve := func(args ...string) *result {
		return w.run(append([]string{"jwks", "serve", "--signer", "file:key.pem"}, args...)...)
	}
	serve("--listen", ":0").fails(exitUsage, "--listen: is not on loopback", "--behind-proxy")
	serve("--listen", "0.0.0.0:0").fails(exitUsage, "--listen: is not on loopback")
	serve("--listen", "192.0.2.1:80", "--tls-key", "tls.key").fails(exitUsage, "--listen: is not on loopback", "--tls-cert: goes with --tls-key")
	serve("--listen", "8080").fails(exitUsage, "--listen: is not host:port")
	serve("--listen", busy.Addr().String()).fails(exitUsage, "--listen: can't listen there")
	serve("--listen", "127.0.0.1:0", "--tls-cert", "tls.pem", "--tls-key", "other.key").fails(exitUsage, "are no pair")
	serve("--listen", "127.0.0.1:0", "--tls-cert", "absent", "--tls-key", "tls.key").fails(exitUsage, "--tls-cert: can't be read")
	if err := os.Chmod(filepath.Join(w.dir, "tls.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	serve("--listen", "127.0.0.1:0", "--tls-cert", "tls.pem", "--tls-key", "tls.key").fails(exitUsage, "--tls-key: can't be read")
	w.run("jwks", "serve", "--signer", "file:absent.pem").fails(exitBackend, "absent.pem")
}

func TestServeBehindProxy(t *testing.T) {
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	_, end := w.serve("--signer", "file:key.pem", "--listen", ":0", "--behind-proxy")
	end(syscall.SIGTERM).ok()
}

// certificate writes a self-signed certificate for 127.0.0.1 and its key.
func (w *world) certificate(certFile, keyFile string) *x509.Certificate {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	w.write(keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return cert
}

func TestCertificateIsReadAgain(t *testing.T) {
	w := &world{t: t, dir: t.TempDir()}
	w.certificate("tls.pem", "tls.key")
	c, err := newCertificate(t.Context(), filepath.Join(w.dir, "tls.pem"), filepath.Join(w.dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	served := func() *x509.Certificate {
		t.Helper()
		got, err := c.get(hello(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf
	}
	first := served()
	second := w.certificate("tls.pem", "tls.key")
	if !served().Equal(first) {
		t.Error("the files are read at every handshake")
	}
	c.read = c.read.Add(-rereadCertificate)
	if !served().Equal(second) {
		t.Error("the renewed certificate is not served")
	}
	w.write("tls.pem", "half a file")
	c.read = c.read.Add(-rereadCertificate)
	if !served().Equal(second) {
		t.Error("a file that can't be used took the last good certificate away")
	}
}

// hello is a ClientHelloInfo with a context, which only a handshake can make.
func hello(ctx context.Context) *tls.ClientHelloInfo {
	got := make(chan *tls.ClientHelloInfo, 1)
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() { _ = tls.Client(client, &tls.Config{ServerName: "test"}).HandshakeContext(ctx) }()
	_ = tls.Server(server, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		got <- h
		return nil, context.Canceled
	}}).HandshakeContext(ctx)
	return <-got
}
