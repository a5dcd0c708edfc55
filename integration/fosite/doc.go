// Package fosite holds tests that log in, through smartcred's public API only,
// at an authorization server that nobody here wrote, see package fositetest.
package fosite
