package awsfake

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	scheme     = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	maxSkew    = 5 * time.Minute
)

// authenticate verifies the request's Signature Version 4 and learns who calls,
// and which region is meant.
func (c *call) authenticate(r *http.Request) error {
	header := r.Header.Get("Authorization")
	if header == "" {
		return refuse("MissingAuthenticationTokenException", "Request is missing Authentication Token")
	}
	parts, ok := authorization(header)
	scope := strings.Split(parts["Credential"], "/")
	date, err := time.Parse(timeFormat, r.Header.Get("X-Amz-Date"))
	if !ok || len(scope) != 5 || err != nil || scope[1] != date.Format("20060102") || scope[4] != "aws4_request" {
		return refuse("IncompleteSignatureException", "Authorization header requires Credential, SignedHeaders and Signature, and a date of the same day")
	}
	c.mu.Lock()
	credential, known := c.credentials[scope[0]]
	c.mu.Unlock()
	token := r.Header.Get("X-Amz-Security-Token")
	if !known || token != credential.SessionToken {
		return refuse("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	now := c.now()
	if !credential.Expires.IsZero() && !now.Before(credential.Expires) {
		return refuse("ExpiredTokenException", "The security token included in the request is expired")
	}
	if scope[3] != c.service {
		return refuse("InvalidSignatureException", fmt.Sprintf("Credential should be scoped to correct service: '%s'.", c.service))
	}
	signed := strings.Split(parts["SignedHeaders"], ";")
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(signed, name) {
			return refuse("InvalidSignatureException", "The header "+name+" is not signed.")
		}
	}
	if !slices.IsSorted(signed) || !slices.Contains(signed, "host") {
		return refuse("InvalidSignatureException", "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	switch skew := now.Sub(date); {
	case skew > maxSkew:
		return refuse("InvalidSignatureException", fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			date.Format(timeFormat), now.Add(-maxSkew).UTC().Format(timeFormat), now.UTC().Format(timeFormat)))
	case -skew > maxSkew:
		return refuse("InvalidSignatureException", fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			date.Format(timeFormat), now.Add(maxSkew).UTC().Format(timeFormat), now.UTC().Format(timeFormat)))
	}
	want := signature(credential.SecretAccessKey, scope[1:], r.Header.Get("X-Amz-Date"), canonical(r, signed, c.body))
	if !hmac.Equal([]byte(want), []byte(parts["Signature"])) {
		return refuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided. "+
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	c.account, c.region = credential.Account, scope[2]
	c.principal = "arn:aws:iam::" + c.account + ":user/app"
	return nil
}

// authorization splits an Authorization header of the scheme.
func authorization(header string) (map[string]string, bool) {
	rest, ok := strings.CutPrefix(header, scheme+" ")
	parts := map[string]string{}
	for _, part := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		parts[name] = value
	}
	return parts, ok && parts["Credential"] != "" && parts["SignedHeaders"] != "" && parts["Signature"] != ""
}

// canonical is the canonical request. Paths and queries are refused before, so
// that these are the ones of all requests.
func canonical(r *http.Request, signed []string, body []byte) string {
	var b strings.Builder
	b.WriteString("POST\n/\n\n")
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	sum := sha256.Sum256(body)
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + hex.EncodeToString(sum[:]))
	return b.String()
}

// signature is that of a canonical request, by the key derived for scope: date,
// region, service, aws4_request.
func signature(secret string, scope []string, date, request string) string {
	sum := sha256.Sum256([]byte(request))
	key := []byte("AWS4" + secret)
	for _, part := range scope {
		key = mac(key, part)
	}
	return hex.EncodeToString(mac(key, strings.Join([]string{scheme, date, strings.Join(scope, "/"), hex.EncodeToString(sum[:])}, "\n")))
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
