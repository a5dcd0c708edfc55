package signer

// An Algorithm is a JWS signature algorithm by its RFC 7518 name.
type Algorithm string

// SMART App Launch asks every client for RS384 and ES384. The others are used
// only where they are asked for by name.
const (
	RS384 Algorithm = "RS384" // RSASSA-PKCS1-v1_5 with SHA-384, RSA of 2048 bits or more
	ES384 Algorithm = "ES384" // ECDSA on P-384 with SHA-384
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
	RS512 Algorithm = "RS512" // RSASSA-PKCS1-v1_5 with SHA-512
	PS384 Algorithm = "PS384" // RSASSA-PSS with SHA-384
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256
)
