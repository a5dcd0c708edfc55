package main

import (
	"net/http"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
)

// clientConfig is what the settings say of the SMART client.
func (s *settings) clientConfig() smartauth.Config {
	return smartauth.Config{
		BaseURL:               s.baseURL,
		ClientID:              s.clientID,
		Scopes:                s.scopes,
		TokenEndpoint:         s.tokenEndpoint,
		AuthorizationEndpoint: s.authorizationEndpoint,
		Issuer:                s.issuer,
		AllowedAuthHosts:      s.allowedAuthHosts,
		RedirectURL:           s.redirectURL,
		IDTokenAlgorithms:     s.idTokenAlgorithms,
		TokenParams:           s.tokenParams,
		Timeout:               s.timeout,
		AllowInsecureLoopback: s.allowInsecureLoopback,
	}
}

// client returns a SMART client that authenticates with p.
func (o *session) client(p provider.Provider) (*smartauth.Client, error) {
	cfg := o.clientConfig()
	cfg.Provider = p
	cfg.HTTPClient = &http.Client{Transport: o.transport}
	cfg.Observer = o.observer
	cfg.Timeout = max(time.Until(o.deadline), time.Nanosecond)
	cfg.UserAgent = "smartcred/" + version()
	return smartauth.NewClient(cfg)
}
