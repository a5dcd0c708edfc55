package canary

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

func testSecretSource(t *testing.T) {
	w := newCommonWatch(t)
	ctx := t.Context()
	opts := &secretsource.OpenOptions{FingerprintKey: []byte(fingerprintKey), Observer: w.observer()}
	w.input("options", *opts)

	t.Setenv("CANARY_SECRET", clientSecret)
	t.Setenv("CANARY_SECRET_PREVIOUS", previousSecret)
	object, err := json.Marshal(map[string]any{"client_secret": clientSecret, "list": []string{clientSecret}, "number": 7, "none": ""})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good", clientSecret+"\n", 0o600)
	write("good.previous", previousSecret, 0o600)
	write("object", string(object), 0o600)
	write("cut", string(object[:len(object)-9]), 0o600)
	write("twice", `{"client_secret":"`+passphrase+`","client_secret":"x"}`, 0o600)
	write("open", clientSecret, 0o666)
	write("bytes", clientSecret+"\xff\x00", 0o600)
	write("empty", "\n", 0o600)
	uris := []string{
		"env:CANARY_SECRET", "env:CANARY_SECRET#field", "env:CANARY_NONE", "file:good", "file:" + good, "file:object",
		"file:object#client_secret", "file:object#list", "file:object#number", "file:object#half", "file:object#none", "file:object#absent",
		"file:cut#client_secret", "file:twice#client_secret", "file:bytes#client_secret", "file:open", "file:empty", "file:absent", "file:.",
		// Secrets in the wrong place.
		clientSecret, previousSecret, passphrase, previousSecret + ":x", "file:good?" + url.QueryEscape(clientSecret) + "=1",
		"file:good?password=" + url.QueryEscape(clientSecret), "file:good?password=" + accessToken + "&password=2", "file:good?a=%zz" + accessToken,
		"file://user:" + accessToken + "@host/path", "vault-kv://user:" + accessToken + "@mount/path#f", "vault-kv://" + accessToken + "/%zz",
		"awskms:///" + accessToken, "unknown-scheme:" + accessToken, strings.ToLower(accessToken) + ":x", "env:CANARY_SECRET?x=" + accessToken, "file:%zz" + accessToken,
	}
	for _, uri := range uris {
		o := *opts
		o.Dir = folder
		src, err := secretsource.Open(ctx, uri, &o)
		w.err("open", err)
		if err != nil {
			continue
		}
		w.value("source", src)
		cache := secretsource.NewCache(src, &secretsource.CacheOptions{Observer: w.observer(), Name: "source"})
		for stage := range secretsource.Previous + 2 {
			secret, err := cache.Lookup(ctx, stage)
			w.err("look up", err)
			w.value("secret", secret)
			w.value("status", cache.Status(stage))
		}
		current, _ := cache.Lookup(ctx, secretsource.Current)
		_, err = cache.Newer(ctx, current)
		w.err("newer", err)
		w.value("cache", cache)
		w.err("close", cache.Close())
		_, err = cache.Lookup(ctx, secretsource.Current)
		w.err("closed", err)
	}
	o := *opts
	o.FingerprintKey = []byte(clientSecret)[:15]
	_, err = secretsource.Open(ctx, "file:good", &o)
	w.err("short key", err)
	w.value("list", twoSecrets())
	w.text("panic", recovered(func() { secretsource.Register("file", nil) }))
}

// recovered returns what fn panics with.
func recovered(fn func()) (text string) {
	defer func() { text = fmt.Sprintf("%v %+v %#v", recover(), nil, nil) }()
	fn()
	return ""
}

// failingKey is a crypto.Signer that does not do what it says.
type failingKey struct {
	crypto.Signer
	sign func(digest []byte) ([]byte, error)
}

func (k failingKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return k.sign(digest)
}

func testSigner(t *testing.T) {
	w := newCommonWatch(t)
	ctx := t.Context()
	key, next := newKey(t, w), newKey(t, w)
	folder := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain, encrypted := pkcs8PEM(t, key, ""), pkcs8PEM(t, key, passphrase)
	number, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	public, err := signer.FromCryptoSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := public.Keys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := signer.PublicJWK(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	raw, _ := json.Marshal(jwk)
	if err := json.Unmarshal(raw, &members); err != nil {
		t.Fatal(err)
	}
	members["d"] = base64.RawURLEncoding.EncodeToString(number)
	private, _ := json.Marshal(members)
	members["x"] = members["d"]
	mismatch, _ := json.Marshal(members)
	members["d"] = map[string]any{"value": members["d"]}
	wrongType, _ := json.Marshal(members)

	write("plain.pem", plain)
	write("plain.pem.next", pkcs8PEM(t, next, ""))
	write("encrypted.pem", encrypted)
	write("cut.pem", plain[:len(plain)/2])
	write("changed.pem", bytes.Replace(plain, []byte("PRIVATE KEY"), []byte("SECRET THING"), 2))
	write("broken.pem", bytes.Replace(plain, []byte("\n"), []byte("\n!"), 2))
	write("encrypted-cut.pem", append(encrypted[:len(encrypted)-80], "\n-----END ENCRYPTED PRIVATE KEY-----\n"...))
	write("key.jwk", private)
	write("mismatch.jwk", mismatch)
	write("type.jwk", wrongType)
	write("cut.jwk", private[:len(private)-4])
	write("set.jwk", []byte(`{"keys":[`+string(private)+`,`+string(mismatch)+`,{"kty":"oct","k":"`+accessToken+`"}]}`))
	write("number", number)
	write("passphrase", []byte(passphrase))
	write("wrong", []byte(previousSecret))
	source := func(name string) string {
		return "?passphrase-source=" + url.QueryEscape("file:"+filepath.Join(folder, name))
	}
	for _, uri := range []string{
		"file:plain.pem", "file:encrypted.pem" + source("passphrase"), "file:encrypted.pem" + source("wrong"), "file:encrypted.pem" + source("absent"),
		"file:encrypted.pem", "file:encrypted-cut.pem" + source("passphrase"), "file:plain.pem" + source("passphrase"), "file:cut.pem", "file:changed.pem", "file:broken.pem",
		"file:key.jwk", "file:mismatch.jwk", "file:type.jwk", "file:cut.jwk", "file:set.jwk", "file:number",
		"file:plain.pem?passphrase=" + url.QueryEscape(passphrase), "file:plain.pem?" + url.QueryEscape(passphrase), "file:plain.pem?passphrase-source=" + url.QueryEscape(passphrase),
		"file:plain.pem#" + accessToken, "pkcs11:token=t?pin-value=" + accessToken, "file://user:" + accessToken + "@h/x", passphrase, string(plain), accessToken + ":x",
	} {
		o := &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{Dir: folder, FingerprintKey: []byte(fingerprintKey), Observer: w.observer()}}
		w.input("options", *o)
		s, err := signer.Open(ctx, uri, o)
		w.err("open", err)
		if err != nil {
			continue
		}
		driveSigner(ctx, t, w, s, signer.KeySetOptions{})
		driveSigner(ctx, t, w, s, signer.KeySetOptions{KeyID: "kid"})
		driveSigner(ctx, t, w, s, signer.KeySetOptions{RequireNonExportable: true})
		w.value("signer", s)
	}
	for name, sign := range map[string]func([]byte) ([]byte, error){
		"fails":    func([]byte) ([]byte, error) { return nil, errors.New("own text") },
		"garbage":  func([]byte) ([]byte, error) { return number, nil },
		"nothing":  func([]byte) ([]byte, error) { return nil, nil },
		"denied":   func([]byte) ([]byte, error) { return nil, smartcred.ErrDenied },
		"bad sign": func(digest []byte) ([]byte, error) { return next.Sign(nil, digest, crypto.SHA384) },
	} {
		s, err := signer.FromCryptoSigner(failingKey{key, sign}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.value("crypto signer, "+name, s)
		driveSigner(ctx, t, w, s, signer.KeySetOptions{})
	}
	w.value("file options", signer.FileOptions{Passphrase: secretsource.Static([]byte(passphrase)), Observer: w.observer()})
}

// driveSigner uses s in every way there is.
func driveSigner(ctx context.Context, t *testing.T, w *watch, s signer.Signer, opts signer.KeySetOptions) {
	opts.Observer = w.observer()
	set, err := signer.NewKeySet(struct{ signer.Signer }{s}, &opts)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := set.Published(ctx)
	w.err("published", err)
	recorder := httptest.NewRecorder()
	set.Handler(ctx).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	w.text("JWK Set handler", recorder.Body.String()+fmt.Sprint(recorder.Header()))
	candidates, err := set.Candidates(ctx, nil)
	w.err("candidates", err)
	w.print("candidates", candidates)
	for _, key := range keys {
		w.value("key", key)
		jwk, err := signer.PublicJWK(key)
		w.err("JWK", err)
		w.value("JWK", jwk)
		jwt, jti, err := signer.Assertion{ClientID: "app", Audience: "https://ehr.example.test/token"}.Sign(ctx, set, key)
		w.err("sign", err)
		_, _, _ = set.Newer(ctx, key)
		if _, signature, ok := strings.Cut(jwt[strings.Index(jwt, ".")+1:], "."); ok {
			w.secret("client assertion", signature)
			w.err("verify", signer.Verify(key, []byte(jwt), []byte(signature)))
			w.text("jti", jti)
		}
		_, err = s.Sign(ctx, signer.Key{Version: "none", Algorithm: key.Algorithm}, []byte(jwt))
		w.err("sign with another key", err)
		_, _, err = signer.Assertion{ClientID: "app", Audience: "x", Header: map[string]any{"x": func() {}}}.Sign(ctx, set, key)
		w.err("sign what is no JSON", err)
	}
	set.SetRevoked(ctx, []string{"x"})
	w.err("stale", set.Stale())
	w.err("close", set.Close())
	w.value("key set", set)
}

// refusing is a send function that is refused.
func refusing(context.Context, provider.Credential) error {
	return &provider.TokenError{Status: http.StatusUnauthorized, Code: "invalid_client"}
}

func testRotation(t *testing.T) {
	w := newCommonWatch(t)
	ctx := t.Context()
	folder := t.TempDir()
	path := filepath.Join(folder, "state")
	memory := rotation.File(path)
	key, err := rotation.Key(ctx, memory)
	if err != nil {
		t.Fatal(err)
	}
	w.value("file memory", memory)
	w.value("rotation options", provider.RotationOptions{Memory: memory, Observer: w.observer()})

	signing := newSigner(t, w)
	options := &provider.RotationOptions{Memory: memory, Observer: w.observer()}
	basic, err := provider.NewClientSecretBasic(twoSecrets(), &provider.SecretOptions{Rotation: options})
	if err != nil {
		t.Fatal(err)
	}
	post, err := provider.NewClientSecretPost(twoSecrets(), &provider.SecretOptions{Rotation: options})
	if err != nil {
		t.Fatal(err)
	}
	jwt, err := provider.NewPrivateKeyJWT(signing, &provider.PrivateKeyJWTOptions{Rotation: options, KeySet: &signer.KeySetOptions{Observer: w.observer()}})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range []provider.Rotator{basic, post, jwt} {
		for _, grant := range []string{"client_credentials", "refresh_token", ""} {
			server := fmt.Sprintf("https://ehr.example.test/%d/%s", i, grant)
			req := provider.Request{ClientID: "app", Server: server, URL: server + "/token", GrantType: grant}
			var identity string
			use := func(_ context.Context, cred provider.Credential) error {
				for _, value := range cred.Sensitive() {
					if i == 2 {
						value = value[bytes.LastIndexByte(value, '.')+1:]
					}
					w.secret("sensitive of a credential", string(value))
				}
				w.value("credential", cred)
				identity = cred.Identity
				return nil
			}
			for _, send := range []func(context.Context, provider.Credential) error{refusing, refusing, use, use, refusing} {
				w.err("authenticate", p.Authenticate(ctx, req, send))
				status := p.Status(ctx, "app", server)
				w.value("status", status)
				w.value("status", status.Status)
				if status.LastError != nil {
					w.err("last", status.LastError)
				}
			}
			w.text("identity", identity)
			w.err("check", p.Check(ctx, identity))
			w.err("check", p.Check(ctx, "another"))
			p.SetRevoked(ctx, []string{"v"})
		}
		w.value("provider", p)
	}
	w.input("credential options", provider.CredentialOptions{
		Method: provider.MethodClientSecretPost, Header: http.Header{"Authorization": {"Basic " + clientSecret}},
		Params: url.Values{"client_secret": {clientSecret}}, Sensitive: [][]byte{[]byte(clientSecret)},
	})
	w.input("candidate", rotation.Candidate[secretsource.Secret]{Identity: []byte(clientSecret), Version: "v", Value: secretsource.New([]byte(clientSecret), "v")})
	w.value("config", provider.Config{Secret: twoSecrets(), Signer: signing, SecretOptions: &provider.SecretOptions{Rotation: options}})

	engine := rotation.New[string](&rotation.Options{Memory: memory, Observer: w.observer()})
	call := rotation.Call[string]{
		Scope: rotation.Scope{ClientID: "app", Server: "engine"}, Candidates: oneCandidate{},
		Send:    func(context.Context, string) error { return errors.New("own text") },
		Refused: func(error) bool { return true },
	}
	w.err("engine", engine.Do(ctx, call))
	w.secret("the store's key", string(key))
	w.value("engine", engine)

	// The file holds its own key, HMACs and names.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(key)
	w.text("state file", strings.ReplaceAll(string(content), strings.Trim(string(quoted), `"`), ""))
	broken := writeFile(t, "broken", `{"version":9,"entries":{"`+clientSecret+`":"`+accessToken+`"}}`)
	_, err = rotation.Key(ctx, rotation.File(broken))
	w.err("broken state file", err)

	// What a write that fails leaves behind.
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = rotation.Key(canceled, rotation.File(path))
	w.err("canceled", err)
	_, err = rotation.Key(ctx, rotation.File(filepath.Join(folder, "absent", "state")))
	w.err("no folder", err)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); name != "state" && name != "state.lock" {
			t.Errorf("%s was left behind", name)
		}
	}
	for _, p := range []io.Closer{basic, post, jwt} {
		w.err("close", p.Close())
	}
}

// oneCandidate is a secret that is its own identity.
type oneCandidate struct{}

func (oneCandidate) Current(context.Context) (rotation.Candidate[string], error) {
	return rotation.Candidate[string]{Identity: []byte(clientSecret), Version: "v1", Value: clientSecret}, nil
}

func (oneCandidate) Others(context.Context, func([]byte) bool) ([]rotation.Candidate[string], error) {
	return []rotation.Candidate[string]{{Identity: []byte(previousSecret), Version: "v0", Value: previousSecret, Stage: rotation.Previous}}, nil
}

func (c oneCandidate) Newer(ctx context.Context, _ rotation.Candidate[string]) (rotation.Candidate[string], error) {
	return c.Current(ctx)
}
