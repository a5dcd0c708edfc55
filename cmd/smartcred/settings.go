package main

import (
	"net/url"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// settings is a configuration as it was read: the file's keys, and the flags
// over them.
type settings struct {
	baseURL               string
	tokenEndpoint         string
	authorizationEndpoint string
	issuer                string
	clientID              string
	scopes                []string

	secret               []string
	signer               string
	authMethod           provider.Method
	secretEncoding       provider.SecretEncoding
	keyID                string
	algorithm            signer.Algorithm
	allowedKIDs          []string
	requireNonExportable bool
	jwksURL              string
	sendJKU              bool
	audience             string
	audienceScheme       string
	assertionLifetime    time.Duration

	publishFor  time.Duration
	overlap     time.Duration
	previous    string
	revoked     []string
	alsoRefusal []string

	idTokenAlgorithms []string
	redirectURL       string
	tokenParams       url.Values
	allowedAuthHosts  []string
	plugins           map[string]plugin
	allowPathPlugins  bool

	caFile    string
	timeout   time.Duration
	stateFile string

	allowInsecureLoopback bool
	insecureBackendTLS    bool
	insecurePermissions   bool

	// dirs has, for each key that was set, the folder its relative paths count
	// from: the file's, or empty for the working directory.
	dirs map[string]string
}

// A plugin is a program that is a secret source or signer.
type plugin struct {
	path   string
	sha256 string
	env    []string
}

const (
	previousOnRefusal = "on_refusal"
	previousNever     = "never"

	defaultTimeout           = 30 * time.Second
	defaultAssertionLifetime = 4 * time.Minute
	defaultPublishFor        = 24 * time.Hour
	defaultOverlap           = 7 * 24 * time.Hour
)

func defaults() *settings {
	return &settings{
		secretEncoding:    provider.EncodingRFC6749,
		sendJKU:           true,
		audience:          provider.AudienceTokenEndpoint,
		assertionLifetime: defaultAssertionLifetime,
		publishFor:        defaultPublishFor,
		overlap:           defaultOverlap,
		previous:          previousOnRefusal,
		idTokenAlgorithms: []string{string(signer.RS256)},
		timeout:           defaultTimeout,
		dirs:              map[string]string{},
	}
}

// jku is the URL to send as jku; empty for none.
func (s *settings) jku() string {
	if !s.sendJKU {
		return ""
	}
	return s.jwksURL
}

// publication is how long new versions are published before they sign; 0 where
// keys are registered by hand.
func (s *settings) publication() time.Duration {
	if s.jwksURL == "" {
		return 0
	}
	return s.publishFor
}
