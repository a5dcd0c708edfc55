package smartauth

import (
	"net/url"
	"slices"
)

// Capabilities of SMART App Launch 2.2, "Capabilities". A server may list others.
const (
	CapabilityLaunchEHR                    = "launch-ehr"
	CapabilityLaunchStandalone             = "launch-standalone"
	CapabilityAuthorizePost                = "authorize-post"
	CapabilityClientPublic                 = "client-public"
	CapabilityClientConfidentialSymmetric  = "client-confidential-symmetric"
	CapabilityClientConfidentialAsymmetric = "client-confidential-asymmetric"
	CapabilitySSOOpenIDConnect             = "sso-openid-connect"
	CapabilityContextBanner                = "context-banner"
	CapabilityContextStyle                 = "context-style"
	CapabilityContextEHRPatient            = "context-ehr-patient"
	CapabilityContextEHREncounter          = "context-ehr-encounter"
	CapabilityContextStandalonePatient     = "context-standalone-patient"
	CapabilityContextStandaloneEncounter   = "context-standalone-encounter"
	CapabilityPermissionOffline            = "permission-offline"
	CapabilityPermissionOnline             = "permission-online"
	CapabilityPermissionPatient            = "permission-patient"
	CapabilityPermissionUser               = "permission-user"
	CapabilityPermissionV1                 = "permission-v1"
	CapabilityPermissionV2                 = "permission-v2"
	CapabilitySMARTAppState                = "smart-app-state"
)

// A CapabilitySet is a named combination of capabilities, SMART App Launch 2.2
// "Capability Sets".
type CapabilitySet string

// The capability sets.
const (
	PatientAccessStandalone   CapabilitySet = "Patient Access for Standalone Apps"
	PatientAccessEHRLaunch    CapabilitySet = "Patient Access for EHR Launch"
	ClinicianAccessStandalone CapabilitySet = "Clinician Access for Standalone"
	ClinicianAccessEHRLaunch  CapabilitySet = "Clinician Access for EHR Launch"
)

// Each also wants client-public or client-confidential-symmetric.
var capabilitySets = []struct {
	set   CapabilitySet
	needs []string
}{
	{PatientAccessStandalone, []string{CapabilityLaunchStandalone, CapabilityContextStandalonePatient, CapabilityPermissionPatient}},
	{PatientAccessEHRLaunch, []string{CapabilityLaunchEHR, CapabilityContextEHRPatient, CapabilityPermissionPatient}},
	{ClinicianAccessStandalone, []string{CapabilityLaunchStandalone, CapabilityPermissionUser, CapabilityPermissionPatient}},
	{ClinicianAccessEHRLaunch, []string{CapabilityLaunchEHR, CapabilityContextEHRPatient, CapabilityContextEHREncounter, CapabilityPermissionUser, CapabilityPermissionPatient}},
}

// Supports reports whether the server lists the capability.
func (c *Configuration) Supports(capability string) bool {
	return slices.Contains(c.Capabilities, capability)
}

// CapabilitySets returns the sets whose every capability the server lists.
func (c *Configuration) CapabilitySets() []CapabilitySet {
	var out []CapabilitySet
	if !c.Supports(CapabilityClientPublic) && !c.Supports(CapabilityClientConfidentialSymmetric) {
		return nil
	}
	for _, s := range capabilitySets {
		if !slices.ContainsFunc(s.needs, func(need string) bool { return !c.Supports(need) }) {
			out = append(out, s.set)
		}
	}
	return out
}

// SupportsEHRLaunch reports whether an EHR can launch apps: the capability and
// an authorization endpoint.
func (c *Configuration) SupportsEHRLaunch() bool {
	return c.Supports(CapabilityLaunchEHR) && c.AuthorizationEndpoint != ""
}

// SupportsStandaloneLaunch reports whether apps can launch by themselves: the
// capability and an authorization endpoint.
func (c *Configuration) SupportsStandaloneLaunch() bool {
	return c.Supports(CapabilityLaunchStandalone) && c.AuthorizationEndpoint != ""
}

// SupportsPublicClients reports whether clients without a credential are taken.
func (c *Configuration) SupportsPublicClients() bool { return c.Supports(CapabilityClientPublic) }

// SupportsSymmetric reports whether client secrets are taken: the capability,
// and a method for secrets unless the server lists no methods at all.
func (c *Configuration) SupportsSymmetric() bool {
	return c.Supports(CapabilityClientConfidentialSymmetric) &&
		c.allowsAuthMethod("client_secret_basic", "client_secret_post")
}

// SupportsAsymmetric reports whether signed assertions are taken: the
// capability, private_key_jwt unless the server lists no methods at all, and an
// algorithm in common.
func (c *Configuration) SupportsAsymmetric() bool {
	return c.Supports(CapabilityClientConfidentialAsymmetric) &&
		c.allowsAuthMethod("private_key_jwt") && len(c.SigningAlgorithms()) > 0
}

// SupportsBackendServices reports whether the server offers client_credentials
// with signed assertions, as SMART Backend Services asks.
func (c *Configuration) SupportsBackendServices() bool {
	return slices.Contains(c.GrantTypes, "client_credentials") && c.SupportsAsymmetric()
}

// SupportsDynamicRegistration reports whether there is a registration endpoint (RFC 7591).
func (c *Configuration) SupportsDynamicRegistration() bool { return c.RegistrationEndpoint != "" }

// SupportsPostBasedAuthorization reports whether authorization requests may be posted.
func (c *Configuration) SupportsPostBasedAuthorization() bool {
	return c.Supports(CapabilityAuthorizePost)
}

// SupportsOpenIDConnect reports whether id_tokens can be had and validated: the
// capability, an issuer and its keys.
func (c *Configuration) SupportsOpenIDConnect() bool {
	return c.Supports(CapabilitySSOOpenIDConnect) && c.Issuer != "" && c.JWKSURI != ""
}

// SigningAlgorithms returns those of RS384 and ES384, SMART's own, that the
// server takes for assertions, in the server's order; both where it does not say.
func (c *Configuration) SigningAlgorithms() []string {
	ours := []string{"RS384", "ES384"}
	if len(c.TokenEndpointAuthSigningAlgorithms) == 0 {
		return ours
	}
	var common []string
	for _, a := range c.TokenEndpointAuthSigningAlgorithms {
		if slices.Contains(ours, a) && !slices.Contains(common, a) {
			common = append(common, a)
		}
	}
	return common
}

// UsableForAppLaunch reports whether a client of the authorization code flow can
// safely go on with this document: both endpoints over https, S256, and the
// grant type where grant types are listed. Endpoints over http on loopback,
// which a client may allow for tests, do not count here.
func (c *Configuration) UsableForAppLaunch() bool {
	return isHTTPS(c.TokenEndpoint) && isHTTPS(c.AuthorizationEndpoint) &&
		slices.Contains(c.CodeChallengeMethods, "S256") &&
		(len(c.GrantTypes) == 0 || slices.Contains(c.GrantTypes, "authorization_code"))
}

// UsableForBackendServices reports whether a backend service can safely go on
// with this document: a token endpoint over https, and client_credentials among
// the grant types or, where none are listed, a sign of asymmetric authentication,
// as in the example of SMART's asymmetric authentication page. Endpoints over
// http on loopback do not count here.
func (c *Configuration) UsableForBackendServices() bool {
	if !isHTTPS(c.TokenEndpoint) {
		return false
	}
	if len(c.GrantTypes) > 0 {
		return slices.Contains(c.GrantTypes, "client_credentials")
	}
	return slices.Contains(c.TokenEndpointAuthMethods, "private_key_jwt") ||
		c.Supports(CapabilityClientConfidentialAsymmetric)
}

func (c *Configuration) allowsAuthMethod(methods ...string) bool {
	return len(c.TokenEndpointAuthMethods) == 0 ||
		slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(c.TokenEndpointAuthMethods, m) })
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != ""
}
