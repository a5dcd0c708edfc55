// Package awstest shows the AWS backends at work. [Run] is one test body for every
// AWS there is: the fake of internal/awsfake, LocalStack, a real account. Its own
// tests run it against the fake, and show both backends from end to end, under
// load, while keys and secrets are rotated.
package awstest
