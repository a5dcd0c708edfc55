package awsclient

import "strings"

// SecretText returns a text of Secrets Manager's without one newline (LF or CRLF)
// at its end, which does not belong to the secret: aws secretsmanager stores the
// one that ends a line typed or piped into it.
func SecretText(text string) string {
	if rest, newline := strings.CutSuffix(text, "\n"); newline {
		return strings.TrimSuffix(rest, "\r")
	}
	return text
}
