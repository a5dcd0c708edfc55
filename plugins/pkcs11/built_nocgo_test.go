//go:build !cgo

package pkcs11

const built = false
