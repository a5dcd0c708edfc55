package secretrotator

import "crypto/rand"

// alphabet are the characters of new secrets: those that form encoding (RFC 6749
// appendix B) leaves as they are, so that HTTP Basic is the same with and
// without it. "~" is not among them: RFC 3986 does not escape it, the WHATWG's
// form encoding does.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._"

const (
	minLength = 43   // of 65 characters: 258.9 bits
	maxLength = 1024 // longer ones fit into few servers' columns and headers
)

// newSecret returns length characters, each of them as likely as any other.
func newSecret(length int) string {
	// The largest multiple of the alphabet's size that a byte can hold.
	const fair = 256 / len(alphabet) * len(alphabet)
	secret := make([]byte, 0, length)
	random := make([]byte, 2*length)
	for {
		_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
		for _, b := range random {
			if int(b) >= fair {
				continue
			}
			if secret = append(secret, alphabet[int(b)%len(alphabet)]); len(secret) == length {
				return string(secret)
			}
		}
	}
}
