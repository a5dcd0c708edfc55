package smartauth

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSupports(t *testing.T) {
	type answers struct {
		EHR, Standalone, Public, Symmetric, Asymmetric, Backend, Registration, Post, OpenID bool
	}
	ask := func(c *Configuration) answers {
		return answers{
			c.SupportsEHRLaunch(), c.SupportsStandaloneLaunch(), c.SupportsPublicClients(), c.SupportsSymmetric(),
			c.SupportsAsymmetric(), c.SupportsBackendServices(), c.SupportsDynamicRegistration(),
			c.SupportsPostBasedAuthorization(), c.SupportsOpenIDConnect(),
		}
	}
	for name, tt := range map[string]struct {
		c    Configuration
		want answers
	}{
		"nothing": {Configuration{}, answers{}},
		"launch without authorization endpoint": {
			Configuration{Capabilities: []string{"launch-ehr", "launch-standalone"}}, answers{}},
		"launch": {
			Configuration{Capabilities: []string{"launch-ehr", "launch-standalone"}, AuthorizationEndpoint: "https://a.example/"},
			answers{EHR: true, Standalone: true}},
		"clients, methods not listed": {
			Configuration{Capabilities: []string{"client-public", "client-confidential-symmetric", "client-confidential-asymmetric"}},
			answers{Public: true, Symmetric: true, Asymmetric: true}},
		"clients, other methods": {
			Configuration{
				Capabilities:             []string{"client-confidential-symmetric", "client-confidential-asymmetric"},
				TokenEndpointAuthMethods: []string{"tls_client_auth"},
			}, answers{}},
		"secret in the body": {
			Configuration{Capabilities: []string{"client-confidential-symmetric"}, TokenEndpointAuthMethods: []string{"client_secret_post"}},
			answers{Symmetric: true}},
		"no algorithm in common": {
			Configuration{
				Capabilities:                       []string{"client-confidential-asymmetric"},
				TokenEndpointAuthSigningAlgorithms: []string{"RS256"},
				GrantTypes:                         []string{"client_credentials"},
			}, answers{}},
		"backend": {
			Configuration{
				Capabilities:                       []string{"client-confidential-asymmetric"},
				TokenEndpointAuthMethods:           []string{"private_key_jwt"},
				TokenEndpointAuthSigningAlgorithms: []string{"RS256", "ES384"},
				GrantTypes:                         []string{"client_credentials"},
			}, answers{Asymmetric: true, Backend: true}},
		"openid without keys": {
			Configuration{Capabilities: []string{"sso-openid-connect"}, Issuer: "https://a.example"}, answers{}},
		"openid, registration, post": {
			Configuration{
				Capabilities: []string{"sso-openid-connect", "authorize-post"}, Issuer: "https://a.example",
				JWKSURI: "https://a.example/jwks", RegistrationEndpoint: "https://a.example/register",
			}, answers{OpenID: true, Registration: true, Post: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ask(&tt.c)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSigningAlgorithms(t *testing.T) {
	for name, tt := range map[string]struct{ server, want []string }{
		"not listed": {nil, []string{"RS384", "ES384"}},
		"empty":      {[]string{}, []string{"RS384", "ES384"}},
		"one":        {[]string{"RS256", "ES384", "ES384"}, []string{"ES384"}},
		"none":       {[]string{"RS256", "es384"}, nil},
		"its order":  {[]string{"ES384", "RS384"}, []string{"ES384", "RS384"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Configuration{TokenEndpointAuthSigningAlgorithms: tt.server}
			if diff := cmp.Diff(tt.want, c.SigningAlgorithms()); diff != "" {
				t.Errorf("algorithms (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCapabilitySets(t *testing.T) {
	c := Configuration{Capabilities: []string{
		"launch-ehr", "launch-standalone", "context-ehr-patient", "context-standalone-patient",
		"permission-patient", "permission-user", "client-confidential-symmetric",
	}}
	want := []CapabilitySet{PatientAccessStandalone, PatientAccessEHRLaunch, ClinicianAccessStandalone}
	if diff := cmp.Diff(want, c.CapabilitySets()); diff != "" {
		t.Errorf("sets (-want +got):\n%s", diff)
	}
	c.Capabilities = append(c.Capabilities, "context-ehr-encounter")
	if diff := cmp.Diff(append(want, ClinicianAccessEHRLaunch), c.CapabilitySets()); diff != "" {
		t.Errorf("sets with encounter (-want +got):\n%s", diff)
	}
	c.Capabilities[6] = "client-confidential-asymmetric"
	if got := c.CapabilitySets(); got != nil {
		t.Errorf("sets without a client type of theirs = %v", got)
	}
	if !c.Supports("permission-user") || c.Supports("Permission-User") {
		t.Error("Supports does not compare exactly")
	}
}
