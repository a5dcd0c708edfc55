package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
)

// shutdownWait is how long visitors may finish, of the five seconds in which a
// service manager is promised the end.
const shutdownWait = 3 * time.Second

// A listening says where and how the JWK Set is served.
type listening struct {
	address         string
	tlsCert, tlsKey string
	behindProxy     bool
}

func (a *app) serve() *cobra.Command {
	var l listening
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the public JWK Set over HTTP",
		Long: `Serve answers /.well-known/jwks.json and / with the client's public JWK Set,
until it is told to end by SIGTERM or SIGINT. Keys that change at their signer
change here within a minute, and so does revoked in the configuration file. Elsewhere than on loopback it wants TLS, its own
(--tls-cert, --tls-key) or that of a proxy before it (--behind-proxy).`,
		Example: `  smartcred jwks serve --config smartcred.yaml
  smartcred jwks serve --signer file:key.pem --listen :8443 --tls-cert tls.pem --tls-key tls.key`,
		Args: noArguments,
	}
	cmd.Flags().StringVar(&l.address, "listen", "127.0.0.1:8080", "`host:port` to listen on; port 0 takes a free one")
	cmd.Flags().StringVar(&l.tlsCert, "tls-cert", "", "PEM `file` with the certificate chain; read again when it changes")
	cmd.Flags().StringVar(&l.tlsKey, "tls-key", "", "PEM `file` with its key")
	cmd.Flags().BoolVar(&l.behindProxy, "behind-proxy", false, "a proxy before this server speaks TLS")
	c := addConfiguration(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		log := slog.New(slog.NewTextHandler(a.messages, nil))
		o, err := c.open(ctx, needSigner, smartcred.LogTo(log), l.check()...)
		if err != nil {
			return err
		}
		defer o.Close()
		// Before it listens: a server without keys to show should not look ready.
		first, cancel := context.WithDeadline(ctx, o.deadline)
		defer cancel()
		if _, err := o.published(first); err != nil {
			return err
		}
		following, stop := context.WithCancel(ctx)
		var follower sync.WaitGroup
		follower.Go(func() { c.followRevoked(following, o, log) })
		defer follower.Wait()
		defer stop()
		return a.listenAndServe(ctx, l, o.keys.Handler(ctx))
	}
	return cmd
}

// check returns what is wrong with the flags.
func (l *listening) check() []error {
	var problems []error
	bad := func(option, problem string) {
		problems = append(problems, &smartcred.ConfigError{Option: option, Problem: problem})
	}
	host, _, err := net.SplitHostPort(l.address)
	switch {
	case err != nil:
		bad("--listen", "is not host:port, such as 127.0.0.1:8080 or :8443")
	case !isLoopback(host) && l.tlsCert == "" && !l.behindProxy:
		bad("--listen", "is not on loopback: give --tls-cert and --tls-key, or --behind-proxy if a proxy speaks TLS")
	}
	if (l.tlsCert == "") != (l.tlsKey == "") {
		bad("--tls-cert", "goes with --tls-key: give both or none")
	}
	return problems
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// listenAndServe serves handler until ctx ends, then lets what is in flight
// finish. A signal is how it is meant to end: no error.
func (a *app) listenAndServe(ctx context.Context, l listening, handler http.Handler) error {
	var config *tls.Config
	if l.tlsCert != "" {
		certificate, err := newCertificate(ctx, l.tlsCert, l.tlsKey)
		if err != nil {
			return err
		}
		config = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", l.address)
	if err != nil {
		return &smartcred.ConfigError{Option: "--listen", Problem: "can't listen there", Err: err}
	}
	mux := http.NewServeMux()
	mux.Handle("/.well-known/jwks.json", handler)
	mux.Handle("/{$}", handler)
	server := &http.Server{
		Handler:           mux,
		TLSConfig:         config,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(a.messages, "", 0),
	}
	ended := make(chan error, 1)
	scheme := "http"
	if config != nil {
		scheme = "https"
		go func() { ended <- server.ServeTLS(listener, "", "") }()
	} else {
		go func() { ended <- server.Serve(listener) }()
	}
	a.messages.line("serving the JWK Set at %s://%s/.well-known/jwks.json", scheme, listener.Addr())
	select {
	case err := <-ended:
		return &smartcred.ConfigError{Option: "--listen", Problem: "can't accept connections", Err: err}
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		_ = server.Close() // what is still in flight is cut
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
