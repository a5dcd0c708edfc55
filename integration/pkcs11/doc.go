// Package pkcs11 tests plugins/pkcs11 against SoftHSM 2, with keys that
// pkcs11-tool makes: on this machine and in a container.
//
// testdata/shim.c is a PKCS#11 module between the two. It counts logins, changes
// the token's flags and breaks to order, because SoftHSM itself never locks.
package pkcs11
