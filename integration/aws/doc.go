// Package aws holds tests only: the AWS backends against an AWS that is not ours,
// with the body of internal/awstest, which its fake passes too.
package aws
