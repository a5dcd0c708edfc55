// Package redact finds a request's credentials in what a server answered, and
// replaces them by [redacted] before anyone sees the text.
//
//	r := redact.New(secret, assertion)
//	description := redact.Text(r.Clean(answer.Description), 256)
//
// Found is a value as it is, form- or percent-encoded (each byte may be escaped,
// in any hex case), escaped as in JSON or HTML, twice escaped, broken over lines,
// and base64-encoded in either alphabet, padded or not, on its own or within a
// longer encoded text such as HTTP Basic's id:secret. Of a value of 16 bytes or
// more, any 12 bytes in a row count; a shorter value counts as a whole only,
// because parts of it would be found in innocent text. The work grows linearly
// with the text.
package redact
