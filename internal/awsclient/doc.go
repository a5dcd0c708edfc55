// Package awsclient is what the AWS backends share: the SDK's configuration with
// smartcred's rules for endpoints, calls that end in time and at Close, and
// errors in smartcred's words.
//
// The SDK's errors quote what was answered, so none of them is passed on: errors
// hold the name of the error if it is one that AWS has, the IAM action, the
// resource as it was configured, and the request id.
package awsclient
