package canary

import (
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"testing"
	"unsafe"

	"github.com/smartcred/smartcred/plugins/pkcs11"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const hsmPIN = "pN7392-0461hS8520"

// testPKCS11 needs no token: it prints what holds a PIN, and opens what can't be
// opened.
func testPKCS11(t *testing.T) {
	w := newCommonWatch(t)
	w.secret("PIN", hsmPIN)
	t.Setenv("CANARY_PIN", hsmPIN)
	library := writeFile(t, "library.so", hsmPIN) // no library
	write := func(name string) string { return "file:" + writeFile(t, name, hsmPIN) }

	options := pkcs11.Options{
		Module: library, Key: pkcs11.KeySelector{Label: "smart"}, Token: pkcs11.TokenSelector{Label: "token"},
		PIN: secretsource.Static([]byte(hsmPIN)), Observer: w.observer(),
	}
	w.value("options", options)
	_, err := pkcs11.New(&options)
	w.err("new", err)
	_, err = pkcs11.New(&pkcs11.Options{Module: hsmPIN, Algorithm: signer.Algorithm(hsmPIN), PIN: options.PIN, MaxSessions: -1})
	w.err("new", err)

	s := &pkcs11.Signer{}
	if held := reflect.ValueOf(s).Elem().FieldByName("opts"); held.IsValid() { // where it is built with cgo
		reflect.NewAt(held.Type(), unsafe.Pointer(held.UnsafeAddr())).Elem().Set(reflect.ValueOf(options))
	}
	w.value("signer", s)

	for _, uri := range pkcs11URIs(library, hsmPIN, write("pin")) {
		s, err := signer.Open(t.Context(), uri, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{Dir: filepath.Dir(library), Observer: w.observer()}})
		w.err("open", err)
		if err == nil {
			t.Errorf("%s was opened", uri)
			w.err("close", s.(io.Closer).Close())
		}
	}
}

// pkcs11URIs are URIs of which none can be opened, with a PIN where it should not
// be. pinSource is a secret source that has it.
func pkcs11URIs(library, pin, pinSource string) []string {
	at := "pkcs11:object=k?module-path=" + library
	escaped := url.QueryEscape(pin)
	return []string{
		at + "&pin-source=" + pinSource, at + "&pin-source=env:CANARY_PIN", at + "&pin-source=" + escaped, at + "&pin-value=" + escaped, at + "&pin=" + escaped, at + "&" + escaped,
		at + "&pin-source=file:" + escaped + "?x=" + escaped, at + "&pin-source=|echo%20" + escaped, at + "&pin-source=unknown:" + escaped, at + "&pin-count-low=" + escaped,
		at + "&next=" + escaped + "=x", at + "&next=id%3D%25zz" + escaped, at + "&previous=pin%3D" + escaped, at + "#" + escaped,
		"pkcs11:object=k;pin-value=" + escaped + "?module-path=" + library, "pkcs11:" + escaped + "?module-path=" + library, "pkcs11:" + escaped + "=k?module-path=" + library,
		"pkcs11:object=k;object=" + escaped, "pkcs11:object=k;slot-id=" + escaped, "pkcs11:object=k;type=" + escaped, "pkcs11:id=%zz" + escaped, "pkcs11://user:" + escaped + "@object=k",
		"pkcs11:object=k?module-path=" + escaped, "pkcs11:object=k?module-name=" + escaped, "pkcs11:module-path=" + escaped + "?object=k",
	}
}
