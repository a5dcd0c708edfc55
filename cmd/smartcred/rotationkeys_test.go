package main

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// published makes key.pem.next look as if it was made that long ago.
func (w *world) published(ago time.Duration) {
	w.t.Helper()
	at := time.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(w.dir, "key.pem.next"), at, at); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kid(file string) string {
	w.t.Helper()
	set := decodeJSON[signer.JWKSet](w.t, w.run("jwks", "--signer", "file:"+file).ok())
	return set.Keys[slices.IndexFunc(set.Keys, func(k signer.JWK) bool { return k.KeyID != "" })].KeyID
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	return err == nil
}

// A key is rotated without a request that fails.
func TestRotateAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.key("ES384", "key.pem", "app")
	first := w.kid("key.pem")
	flags := []string{"--signer", "file:key.pem", "--state-file", "state.json"}
	token := func() string {
		t.Helper()
		w.srv.ResetRequests()
		w.run(w.args("token", flags...)...).ok()
		sent := w.srv.RequestsTo(smartauthtest.EndpointToken)
		kid, _ := sent[len(sent)-1].AssertionHeader["kid"].(string)
		return kid
	}
	if token() != first {
		t.Error("not signed with the only key")
	}
	if s := w.status(flags...); s.ActionNeeded || !s.held(t, "current").InForce || !strings.Contains(s.Next[0], "rotation new-key") {
		t.Errorf("before: %+v", s)
	}

	r := w.run("rotation", "new-key", "--signer", "file:key.pem")
	set := decodeJSON[signer.JWKSet](t, r.ok())
	if len(set.Keys) != 2 || set.Keys[1].KeyID != first || set.Keys[0].Algorithm != "ES384" || !strings.Contains(r.stderr, "then, from ") {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	second := set.Keys[0].KeyID
	if again := w.run("jwks", "--signer", "file:key.pem").ok(); again != r.stdout {
		t.Errorf("jwks prints another set: %s", again)
	}
	if m := mode(t, filepath.Join(w.dir, "key.pem.next")); m != 0o600 {
		t.Errorf("mode %v", m)
	}
	w.run("rotation", "new-key", "--signer", "file:key.pem").fails(exitUsage, "is there already", "rotation activate")
	w.srv.SetJWKS("app", r.stdout)
	if token() != first {
		t.Error("the next key signs before its time")
	}

	if s := w.status(flags...); s.ActionNeeded || !strings.Contains(s.Next[0], "rotation activate") {
		t.Errorf("too early: %+v", s)
	}
	activate := func(more ...string) *result {
		return w.run(append([]string{"rotation", "activate", "--signer", "file:key.pem"}, more...)...)
	}
	activate().fails(exitUsage, "publish_for is 24h: wait until ", "--force")
	w.published(25 * time.Hour)
	if s := w.status(flags...); !s.ActionNeeded || !strings.Contains(s.Next[0], "rotation activate") {
		t.Errorf("in time: %+v", s)
	}
	if r := activate(); r.ok() != "" || !strings.Contains(r.stderr, "kid "+second) {
		t.Errorf("%q %q", r.stdout, r.stderr)
	}
	if token() != second {
		t.Error("not signed with the new key")
	}
	if r := activate(); r.ok() != "" || !strings.Contains(r.stderr, "nothing to do") {
		t.Errorf("a second run says %q", r.stderr)
	}
	s := w.status(flags...)
	if s.ActionNeeded || s.held(t, "previous").KeyID != first || s.held(t, "current").KeyID != second || !strings.Contains(s.Next[0], "revoke previous") {
		t.Errorf("after: %+v", s)
	}

	if r := w.run("rotation", "revoke", first, "--signer", "file:key.pem"); r.ok() != "" || !strings.Contains(r.stderr, "removed key.pem.previous") {
		t.Errorf("%q", r.stderr)
	}
	if set := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem").ok()); len(set.Keys) != 1 || set.Keys[0].KeyID != second {
		t.Errorf("the revoked key is published: %v", set)
	}
}

func TestNewKeyIsAsTheCurrentOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "RS384", "--bits", "2048", "--out", "key.pem").ok()
	set := decodeJSON[signer.JWKSet](t, w.run("rotation", "new-key", "--signer", "file:key.pem").ok())
	if set.Keys[0].Algorithm != "RS384" || set.Keys[0].KeyID == set.Keys[1].KeyID {
		t.Errorf("%v", set)
	}
	if err := os.Remove(filepath.Join(w.dir, "key.pem.next")); err != nil {
		t.Fatal(err)
	}
	set = decodeJSON[signer.JWKSet](t, w.run("rotation", "new-key", "--signer", "file:key.pem", "--alg", "ES384").ok())
	if set.Keys[0].Algorithm != "ES384" {
		t.Errorf("%v", set)
	}
	w.run("rotation", "new-key", "--signer", "file:key.pem", "--alg", "HS256").fails(exitUsage, "--alg: is neither")
	w.run("rotation", "new-key", "--signer", "file:key.pem", "--key-id", "k").fails(exitUsage, "key_id: names the only key")
	w.run("rotation", "new-key", "--signer", "file:absent.pem").fails(exitBackend, "absent.pem")
	w.run("rotation", "new-key").fails(exitUsage, "signer: is missing")
}

// What is encrypted stays encrypted.
func TestNewKeyIsEncryptedAsTheSignerIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.env = []string{"PASSPHRASE=correct horse"}
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	uri := "file:key.pem?passphrase-source=env%3APASSPHRASE"
	set := decodeJSON[signer.JWKSet](t, w.run("rotation", "new-key", "--signer", uri).ok())
	block, _ := pem.Decode([]byte(read(t, filepath.Join(w.dir, "key.pem.next"))))
	if block == nil || block.Type != "ENCRYPTED PRIVATE KEY" {
		t.Fatal("the next key is not encrypted")
	}
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		t.Fatal("the next key is not encrypted")
	}
	w.run("rotation", "activate", "--signer", uri, "--force").ok()
	if after := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", uri).ok()); after.Keys[0].KeyID != set.Keys[0].KeyID {
		t.Errorf("%v", after)
	}
	w.env = nil
	w.run("jwks", "--signer", uri).fails(exitBackend, "PASSPHRASE")
}

// Whatever step the machine stops after, path holds a key, nothing is lost, and
// the next run completes.
func TestActivateIsSafeAgainstACrash(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	path := filepath.Join(w.dir, "key.pem")
	run := func(steps []step) {
		t.Helper()
		for _, s := range steps {
			if err := s.do(); err != nil {
				t.Fatalf("%s: %v", s.fails, err)
			}
			if !exists(t, path) {
				t.Fatal("path is missing")
			}
		}
	}
	for crash := range len(activation(path)) {
		w.write("key.pem", "old")
		w.write("key.pem.previous", "older")
		w.write("key.pem.next", "new")
		run(activation(path)[:crash])
		kept := read(t, path) + read(t, path+suffixPrevious)
		if !strings.Contains(kept, "old") || exists(t, path+suffixNext) == strings.Contains(kept, "new") {
			t.Fatalf("after %d steps: %q", crash, kept)
		}
		if exists(t, path+suffixNext) { // else a second run finds nothing to do
			run(activation(path))
		}
		if got := read(t, path) + " " + read(t, path+suffixPrevious); got != "new old" {
			t.Errorf("after a crash at step %d and a second run: %q", crash, got)
		}
		entries, err := os.ReadDir(w.dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("after a crash at step %d and a second run the folder holds %v (%v)", crash, entries, err)
		}
	}
}

// A reader that looks all the time never finds path missing.
func TestActivateUnderAReader(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	path := w.write("key.pem", "key 0")
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if data, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(data), "key ") {
				t.Errorf("a reader finds %q, %v", data, err)
				return
			}
		}
	})
	for range 300 {
		w.write("key.pem.next", "key n")
		for _, s := range activation(path) {
			if err := s.do(); err != nil {
				t.Errorf("%s: %v", s.fails, err)
			}
		}
	}
	close(done)
	reader.Wait()
}

// Two runs at once do not lose the key that was current.
func TestActivateTwiceAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	w.run("keygen", "--alg", "ES384", "--out", "key.pem.next").ok()
	old, next := read(t, filepath.Join(w.dir, "key.pem")), read(t, filepath.Join(w.dir, "key.pem.next"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { w.run("rotation", "activate", "--signer", "file:key.pem", "--force").ok() })
	}
	wg.Wait()
	if read(t, filepath.Join(w.dir, "key.pem")) != next || read(t, filepath.Join(w.dir, "key.pem.previous")) != old {
		t.Error("a key was lost")
	}
}

func TestActivateRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	before := read(t, filepath.Join(w.dir, "key.pem"))
	next := filepath.Join(w.dir, "key.pem.next")
	activate := func(more ...string) *result {
		return w.run(append([]string{"rotation", "activate", "--signer", "file:key.pem"}, more...)...)
	}
	w.write("key.pem.next", "half a key")
	activate("--force").fails(exitUsage, "holds no key that could take over")
	w.write("key.pem.next", before)
	activate("--force").fails(exitUsage, "holds no key that could take over")
	if err := os.Remove(next); err != nil {
		t.Fatal(err)
	}
	kid := decodeJSON[signer.JWKSet](t, w.run("keygen", "--alg", "ES384", "--out", "key.pem.next").ok()).Keys[0].KeyID
	activate("--force", "--revoked", kid).fails(exitUsage, "holds no key that could take over")
	if err := os.Chmod(filepath.Join(w.dir, "key.pem"), 0o640); err != nil {
		t.Fatal(err)
	}
	w.published(48 * time.Hour)
	activate().fails(exitUsage, "another owner or mode", "chmod --reference=key.pem key.pem.next")
	if err := os.Chmod(next, 0o640); err != nil {
		t.Fatal(err)
	}
	w.published(-time.Hour) // a clock that was set back
	activate().fails(exitUsage, "publish_for is 24h")
	if err := os.Rename(next, filepath.Join(w.dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", next); err != nil {
		t.Fatal(err)
	}
	activate("--force").fails(exitUsage, "is a link", "Kubernetes")
	if read(t, filepath.Join(w.dir, "key.pem")) != before || exists(t, filepath.Join(w.dir, "key.pem.previous")) {
		t.Error("something was moved")
	}
}

func TestRevokeAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, name := range []string{"key.pem", "key.pem.next", "key.pem.previous"} {
		w.run("keygen", "--alg", "ES384", "--out", name).ok()
	}
	revoke := func(name string, more ...string) *result {
		return w.run(append([]string{"rotation", "revoke", name, "--signer", "file:key.pem"}, more...)...)
	}
	current := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem").ok()).Keys[1].KeyID
	revoke(current).fails(exitUsage, "is the current one", "rotation new-key", "revoked: ["+current+"]")
	revoke("unknown").fails(exitUsage, "no key in the files has that kid or version")
	hyphen := "-" + strings.Repeat("k", 42) // as one thumbprint in 64 begins
	revoke(hyphen).fails(exitUsage, "no key in the files has that kid or version")
	w.run("rotation", "revoke", "--signer", "file:key.pem", "--force", hyphen).fails(exitUsage, "no key in the files has that kid or version")
	w.run("rotation", "revoke", "--signer", "file:key.pem", "--", hyphen).fails(exitUsage, "no key in the files has that kid or version")
	w.run("rotation", "revoke", "--signer", "file:key.pem", "--revoked", hyphen).fails(exitUsage, "which one?")
	w.run("rotation", "revoke", hyphen+"k").fails(exitUsage, "a flag is malformed") // too long for one
	w.run("rotation", "revoke", "--signer", "file:key.pem").fails(exitUsage, "which one?")
	w.run("rotation", "revoke", "a", "b", "--signer", "file:key.pem").fails(exitUsage, "which one?")
	revoke("previous").ok()
	if r := revoke("previous"); r.ok() != "" || r.stderr != "nothing to do: there is no key.pem.previous\n" {
		t.Errorf("a second time: %q", r.stderr)
	}
	w.write("key.pem.next", "half a key")
	revoke("next").ok()
	if r := revoke("next"); r.ok() != "" || r.stderr != "nothing to do: there is no key.pem.next\n" {
		t.Errorf("a second time: %q", r.stderr)
	}
	if exists(t, filepath.Join(w.dir, "key.pem.next")) || exists(t, filepath.Join(w.dir, "key.pem.previous")) {
		t.Error("the files are there")
	}
	revoke("current", "--force").ok()
	if exists(t, filepath.Join(w.dir, "key.pem")) {
		t.Error("the current file is there")
	}
	revoke("current", "--force").fails(exitUsage, "is not there")
}

func TestStepsThatOthersMake(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"new-key", "--signer", "vault-transit://transit/smart"}, "vault write -f transit/keys/smart/rotate"},
		{[]string{"activate", "--signer", "vault-transit://transit/smart"}, "vault-transit://transit/smart?version=N"},
		{[]string{"revoke", "1", "--signer", "vault-transit://team/transit/smart"}, "vault write team/transit/keys/smart/config min_encryption_version=N"},
		{[]string{"new-key", "--signer", "awskms:///alias/smart?region=eu-central-1"}, "aws kms create-key"},
		{[]string{"activate", "--signer", "awskms:///alias/smart"}, "aws kms update-alias"},
		{[]string{"revoke", "1", "--signer", "awskms:///alias/smart"}, "aws kms disable-key"},
		{[]string{"new-key", "--signer", "pkcs11:token=t;object=k?pin-value=hunter2"}, "pkcs11-tool"},
		{[]string{"revoke", "2", "--secret", "vault-kv://secret/smart#client_secret"}, "vault kv destroy -mount=secret -versions=N smart"},
		{[]string{"revoke", "2", "--secret", "vault-kv://secret/team/smart#client_secret"}, "vault kv destroy -mount=secret -versions=N team/smart"},
		{[]string{"revoke", "2", "--secret", "vault-kv://secret/team/smart?mount=secret%2Fteam#client_secret"}, "vault kv destroy -mount=secret/team -versions=N smart"},
		{[]string{"revoke", "2", "--secret", "awssecretsmanager:///smart/app?region=x"}, "--secret-id smart/app --version-stage AWSPREVIOUS"},
		{[]string{"revoke", "2", "--secret", "env:APP_SECRET"}, "take APP_SECRET_PREVIOUS out"},
		{[]string{"revoke", "2", "--secret", "env:A,env:B"}, "secret: is a list: take the entry out"},
		{[]string{"revoke", "2"}, "neither a signer nor a secret"},
	} {
		r := w.run(append([]string{"rotation"}, test.args...)...)
		r.fails(exitUsage, test.says)
		if strings.Contains(r.stderr, "hunter2") || strings.Contains(r.stderr, "import") {
			t.Errorf("%s", r.stderr)
		}
	}
}
