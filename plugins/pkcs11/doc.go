// Package pkcs11 signs client assertions with private keys in an HSM, through
// the HSM's PKCS#11 library. The private half of a key stays in the token.
//
// Importing the package registers pkcs11: URIs (RFC 7512) with package signer:
//
//	import _ "github.com/smartcred/smartcred/plugins/pkcs11"
//
//	s, err := signer.Open(ctx, "pkcs11:token=smart;object=smart-2026"+
//		"?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/app/pin", nil)
//
// [New] does the same from Go, without a URI.
//
// # URI
//
// Before the question mark, separated by semicolons, stands what the token and
// the key are called. All that is given must match:
//
//	token         the token's label
//	serial        its serial number
//	manufacturer  its manufacturer
//	model         its model
//	slot-id       the number of its slot; many libraries renumber slots
//	object        the key's label, CKA_LABEL
//	id            the key's CKA_ID, every byte percent-encoded: id=%01%ab
//	type          private, or left out
//
// A key needs object, id or both; a token needs nothing where the library has
// only one. serial= without a value means that the token has none; so with the
// other three words of a token. After the question mark, separated by ampersands:
//
//	module-path    the PKCS#11 library, an absolute path; required
//	pin-source     the secret source of the user PIN, a URI: env:HSM_PIN,
//	               file:/etc/app/pin, vault-kv://secret/hsm%23pin
//	next           the key that signs after the present one: object=NAME, id=…,
//	               both joined by %3B, or a label alone
//	previous       the key that signed before it
//	pin-count-low  try: see below
//
// Values are percent-encoded once; the parts of next and previous may be encoded
// once more (next=id%3D%2502). A plus sign is a plus sign. Everything else is
// refused, pin-value (a secret in the configuration) and module-name (a library
// by search) with the reason.
//
// # Keys
//
// RSA of 2048 to 8192 bits signs RS384, P-384 signs ES384; other algorithms where
// they are asked for. The digest is made in this process and the token signs it
// with CKM_RSA_PKCS, CKM_RSA_PKCS_PSS or CKM_ECDSA. The public half comes from
// the private key's own attributes, from the public key object with the same
// CKA_ID (the same CKA_LABEL where there is no ID), or from a certificate with
// the same CKA_ID; for EC keys one of the last two must be there, as a rule. A
// key's Version is its CKA_ID in hexadecimal, or "label:" and its label; where
// several keys have one, "~" and the beginning of the thumbprint follow.
//
// CKA_START_DATE is when a key may begin to sign (midnight UTC), and after the
// day of CKA_END_DATE it is not listed any more. A date that the private key does
// not show is taken from its public key object: SoftHSM 2.6 can't read those of
// private objects. One that can't be read anywhere keeps its key published and
// unused, as next does. So one label may name several keys: the newest whose day has
// come signs, later ones are published. Several without a date are an error at
// first use, because nothing tells the newest; one that appears while the program
// runs is published and does not sign.
//
// A key that next names is published and signs only when it is named object or
// id, or once a server refuses the others. A next or previous that names no key,
// and a key that can't be used, is left out with an event.
//
// [signer.Custody] is what the token says of a key: CKA_LOCAL, CKA_EXTRACTABLE,
// CKA_NEVER_EXTRACTABLE, CKA_SENSITIVE and CKA_ALWAYS_SENSITIVE. Keys that ask for
// the PIN at each signature (CKA_ALWAYS_AUTHENTICATE) are left out.
//
// # The PIN
//
// HSMs lock after a few wrong PINs. Before each login the token's flags are read:
// a PIN that is locked or down to its final try is [smartcred.ErrDenied] without
// an attempt. So is one of which an attempt has failed already, by whomever
// (CKF_USER_PIN_COUNT_LOW), unless pin-count-low=try is set: then it is tried.
// Take that out again afterwards, because every start of the process tries.
// A PIN that the token refused is not sent to that token again by this process
// until the source gives another one or [Signer.Reset] is called. After a login
// that failed without a word on the PIN (CKR_FUNCTION_FAILED, a vendor's own
// answers), which may have cost a try, the same PIN waits: 1 second, then 1 minute,
// 10 minutes and an hour each.
//
// A process logs in to a token once, for all Signers on it. PKCS#11 knows one
// login of a process and a token: whoever is in the process can use the keys then.
//
// # Sessions
//
// Calls share at most MaxSessions sessions. When sessions, handles, the login or the
// device are lost, the next call drops them, logs in again once for all callers,
// finds the key again and signs. A token that is gone is looked for by restarting
// the library (C_Finalize, C_Initialize), once in a second, or in 10 while other
// tokens of the library are in use.
//
// A call in the library can't be interrupted. A caller whose context ends
// returns; the call goes on and keeps its session until it returns. Close waits
// for such calls for 5 seconds.
//
// # Errors
//
// Errors match the sentinels of package smartcred: ErrInvalidConfig (the URI,
// the library's file, several tokens or keys where one is meant), ErrNotFound (no
// such key), ErrDenied (the PIN, the key's permissions), ErrUnavailable (no such
// token, the device), ErrUnsupportedAlgorithm. The library's answer is in the
// text by its CKR_ name. No error holds a PIN.
//
// # Trust
//
// A PKCS#11 library is C code that runs in this process: it can read everything
// the process can, crash it, or hang. The file and the folders above it must be
// writable by root or this user only, and are checked before the library is
// loaded. It stays loaded until the process ends. The PIN passes through
// this process's memory for a login, also as a C string, which is freed, not wiped.
//
// The package needs cgo and a C compiler. In a program built with CGO_ENABLED=0
// it registers the scheme, and opening says what is missing.
package pkcs11
