package main

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// loaded is a configuration read as a command would, and what is wrong with it.
func loaded(t testing.TB, args ...string) (*settings, []string) {
	t.Helper()
	cmd := &cobra.Command{Use: "test"}
	c := addConfiguration(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	s, wrong, err := c.load(t.Context())
	if err != nil {
		return nil, []string{err.Error()}
	}
	wrong.add(s.check(0)...)
	var said []string
	for _, problem := range wrong.problems {
		said = append(said, problem.Error())
	}
	return s, said
}

func TestEveryKey(t *testing.T) {
	dir := t.TempDir()
	text := read(t, filepath.Join("testdata", "all.yaml"))
	path := filepath.Join(dir, "all.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range options {
		if !strings.Contains(text, "\n"+options[i].key+":") {
			t.Errorf("testdata/all.yaml has no %s", options[i].key)
		}
	}
	got, wrong := loaded(t, "--config", path)
	if len(wrong) > 0 {
		t.Fatalf("wrong: %v", wrong)
	}
	dirs := map[string]string{}
	for key := range got.dirs {
		dirs[key] = dir
	}
	want := &settings{
		baseURL: "https://fhir.example.com/r4", tokenEndpoint: "https://auth.example.com/token",
		authorizationEndpoint: "https://auth.example.com/authorize", issuer: "https://auth.example.com",
		clientID: "my-app", scopes: []string{"system/*.rs", "system/Patient.r"},
		secret: []string{"file:secret", "env:SECRET"}, signer: "file:key.pem",
		authMethod: "private_key_jwt", secretEncoding: "raw", keyID: "2026-01", algorithm: "ES384",
		allowedKIDs: []string{"2026-01"}, requireNonExportable: true,
		jwksURL: "https://app.example.com/jwks.json", sendJKU: false,
		audience: "issuer", audienceScheme: "http", assertionLifetime: 2 * time.Minute,
		publishFor: 48 * time.Hour, overlap: 72 * time.Hour, previous: "on_refusal",
		revoked: []string{"v1"}, alsoRefusal: []string{"invalid_grant", "bare_401"}, idTokenAlgorithms: []string{"RS256", "ES384"},
		redirectURL:      "http://127.0.0.1:8000/callback",
		tokenParams:      url.Values{"resource": {"https://fhir.example.com/r4"}, "audience": {"one", "two"}},
		allowedAuthHosts: []string{"auth.example.com"}, allowPathPlugins: true,
		plugins: map[string]plugin{"keyhouse": {path: "/usr/libexec/keyhouse", sha256: strings.Repeat("0a", 32), env: []string{"KEYHOUSE_URL"}}},
		caFile:  filepath.Join(dir, "ca.pem"), timeout: 45 * time.Second, stateFile: filepath.Join(dir, "state.json"),
		allowInsecureLoopback: true, insecureBackendTLS: true, insecurePermissions: true,
		dirs: dirs,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(settings{}, plugin{})); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

// Every key is a flag, and says the same there as in the file.
func TestEveryFlag(t *testing.T) {
	// A copy: the mode of a checkout depends on its umask, which the reader looks at.
	fromFile, wrong := load(t, read(t, filepath.Join("testdata", "all.yaml")))
	if len(wrong) > 0 {
		t.Fatalf("wrong: %v", wrong)
	}
	fromFlags, wrong := loaded(t,
		"--base-url=https://fhir.example.com/r4", "--token-endpoint", "https://auth.example.com/token",
		"--authorization-endpoint=https://auth.example.com/authorize", "--issuer=https://auth.example.com",
		"--client-id=my-app", "--scopes", "system/*.rs, system/Patient.r",
		"--secret=file:secret", "--secret=env:SECRET", "--signer=file:key.pem",
		"--auth-method=private_key_jwt", "--secret-encoding=raw", "--key-id=2026-01", "--algorithm=ES384",
		"--allowed-kids=2026-01", "--require-non-exportable",
		"--jwks-url=https://app.example.com/jwks.json", "--send-jku=false",
		"--audience=issuer", "--audience-scheme=http", "--assertion-lifetime=2m",
		"--publish-for=48h", "--overlap=3d", "--previous=on_refusal",
		"--revoked=v1", "--also-refusal=invalid_grant,bare_401", "--state-file=testdata/state.json", "--id-token-algorithms=RS256,ES384", "--redirect-url=http://127.0.0.1:8000/callback",
		"--allowed-auth-hosts=auth.example.com", "--allow-path-plugins", "--ca-file=testdata/ca.pem", "--timeout=45s",
		"--allow-insecure-loopback", "--insecure-backend-tls", "--insecure-permissions")
	if len(wrong) > 0 {
		t.Fatalf("wrong: %v", wrong)
	}
	if want := filepath.Join("testdata", "ca.pem"); fromFlags.caFile != want {
		t.Errorf("ca_file is %s, want %s", fromFlags.caFile, want)
	}
	for _, s := range []*settings{fromFile, fromFlags} {
		s.dirs, s.caFile, s.stateFile, s.tokenParams, s.plugins = nil, "", "", nil, nil // paths differ, maps have no flag
	}
	if diff := cmp.Diff(fromFile, fromFlags, cmp.AllowUnexported(settings{}, plugin{})); diff != "" {
		t.Errorf("settings (-file +flags):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	for _, file := range []string{"", "# nothing\n", "client_id:\nscopes:\nplugins:\nsend_jku:\n", "---\n"} {
		got, wrong := load(t, file)
		if len(wrong) > 0 {
			t.Errorf("%q: %v", file, wrong)
			continue
		}
		if diff := cmp.Diff(defaults(), got, cmp.AllowUnexported(settings{})); diff != "" {
			t.Errorf("%q: settings (-want +got):\n%s", file, diff)
		}
	}
}

// load is loaded with a file of this text.
func load(t testing.TB, text string, args ...string) (*settings, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "smartcred.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return loaded(t, append([]string{"--config", path}, args...)...)
}

func TestFlagsWinOverTheFile(t *testing.T) {
	s, wrong := load(t, "client_id: from-file\nscopes: [a, b]\nsend_jku: true\ntimeout: nonsense\n",
		"--client-id=from-flag", "--scopes=c", "--send-jku=false", "--timeout=1s")
	if len(wrong) > 0 {
		t.Fatal(wrong)
	}
	if s.clientID != "from-flag" || !cmp.Equal(s.scopes, []string{"c"}) || s.sendJKU || s.timeout != time.Second {
		t.Errorf("settings %+v", s)
	}
}

func TestWrongConfigurations(t *testing.T) {
	for _, test := range []struct {
		name, file string
		args       []string
		want       []string // a part of each problem, in order
	}{
		{name: "unknown key", file: "base_ulr: x\n", want: []string{"base_ulr: unknown; did you mean base_url? (line 1)"}},
		{name: "flag's spelling", file: "client-id: x\n", want: []string{"did you mean client_id?"}},
		{name: "a secret", file: "client_secret: hunter2\n", want: []string{"secrets do not belong here"}},
		{name: "given twice", file: "client_id: a\nclient_id: b\n", want: []string{"client_id: is given twice (line 2)"}},
		{name: "flag given twice", args: []string{"--client-id=a", "--client-id=b"}, want: []string{"--client-id: is given twice"}},
		{name: "not YAML", file: "client_id: [hunter2\n", want: []string{"config: the file is not valid YAML (line "}},
		{name: "a list", file: "- client_id\n", want: []string{"no map of keys and values"}},
		{name: "two documents", file: "client_id: a\n---\nclient_id: b\n", want: []string{"more than one YAML document"}},
		{name: "key that is no word", file: "1: a\n? [x]\n: b\n", want: []string{"config: has a key that is no plain word (line 1)", "no plain word (line 2)"}},
		{name: "merge key", file: "<<: {client_id: a}\n", want: []string{"no plain word"}},
		{name: "alias", file: "client_id: &a x\nissuer: *a\n", want: []string{"issuer: is a YAML alias"}},
		{name: "map for text", file: "client_id: {a: b}\n", want: []string{"client_id: is no single value"}},
		{name: "list for text", file: "client_id: [a]\n", want: []string{"client_id: is no single value"}},
		{name: "text for list", file: "scopes: a b\n", want: []string{"scopes: is no list: write [one, two]"}},
		{name: "list of lists", file: "scopes: [[a]]\n", want: []string{"scopes: has an entry that is no single value"}},
		{name: "list with nothing", file: "scopes: [a, ]\nsecret: [~]\n", want: []string{"secret: has an entry"}},
		{name: "empty entry", args: []string{"--scopes=a,,b"}, want: []string{"--scopes: has an empty entry"}},
		{name: "no boolean", file: "send_jku: yes\n", args: []string{"--insecure-permissions=1"}, want: []string{"send_jku: is neither", "--insecure-permissions: is neither"}},
		{name: "no duration", file: "timeout: 30\noverlap: 1y\n", want: []string{"timeout: is no duration", "overlap: is no duration"}},
		{name: "too short", file: "timeout: 0s\nassertion_lifetime: -1m\npublish_for: 0d\n", want: []string{"timeout: is too short", "assertion_lifetime: is too short", "publish_for: is too short"}},
		{name: "too long", file: "assertion_lifetime: 6m\n", want: []string{"assertion_lifetime: is over 5 minutes"}},
		{name: "no choice", file: "auth_method: basic\nsecret_encoding: x\nalgorithm: HS256\naudience_scheme: ftp\nprevious: always\nalso_refusal: [timeout]\n", want: []string{
			"auth_method: is not one of none, client_secret_basic", "secret_encoding: is not one of rfc6749, raw", "algorithm: is not one of RS384",
			"audience_scheme: is not one of http, https", "previous: is not one of on_refusal, never", "also_refusal: has an entry that is not one of invalid_grant"}},
		{name: "URLs", file: "base_url: fhir\ntoken_endpoint: http://a.example.com\nissuer: https://u:p@a.example.com\nredirect_url: /cb\njwks_url: http://a.example.com\n", want: []string{
			"base_url: is no absolute URL", "token_endpoint: is http", "issuer: has a user name or password", "redirect_url: is no absolute URL", "jwks_url: is not an absolute https URL"}},
		{name: "scope", file: "scopes: [\"a b\"]\n", want: []string{"scopes: has an entry"}},
		{name: "id token algorithms", file: "id_token_algorithms: [HS256, none]\n", want: []string{`"HS256" is not one of`, `"none" is not one of`}},
		{name: "issuer as audience", file: "audience: issuer\n", want: []string{"audience: is issuer, and issuer is not set"}},
		{name: "reserved parameters", file: "token_params: {scope: a, client_assertion: b, fine: c}\n", want: []string{"client_assertion is reserved", "scope is reserved"}},
		{name: "no parameters", file: "token_params: [a]\n", want: []string{"token_params: is no map"}},
		{name: "parameter of another kind", file: "token_params: {a: {b: c}, d: ~}\n", want: []string{"token_params.a: is neither a value nor", "token_params.d: is neither"}},
		{name: "plugin", file: "plugins: {p: {path: x, sha256: beef, environment: []}, q: {}, r: x}\n", want: []string{
			"plugins.p.sha256: is no SHA-256", "plugins.p.environment: unknown key", "plugins.q.path: is missing", "plugins.r: is no map",
			"plugins.p.path: is not absolute"}},
		{name: "name of a plugin", file: "plugins: {../p: {path: /p}, a b: {path: /p}, p-1: {path: /p, sha256: " + strings.Repeat("0a", 32) + ", env: [HOME]}}\n", want: []string{
			"plugins.../p: is no name of a plugin", "plugins.a b: is no name of a plugin"}},
		{name: "all of rotation", file: "signer: file:key.pem\noverlap: 0s\nprevious: never\nrevoked: [v1]\nalso_refusal: [invalid_grant, bare_401, server_error]\nstate_file: state\n"},
		{name: "rotation of a secret", file: "secret: file:secret\noverlap: 1h\nrevoked: [v1]\n"},
		{name: "previous never, with a secret", file: "secret: file:secret\nprevious: never\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, wrong := load(t, test.file, test.args...)
			for i, problem := range wrong {
				if i >= len(test.want) || !strings.Contains(problem, test.want[i]) {
					t.Errorf("problem %d: %s", i, problem)
				}
				if strings.Contains(problem, "hunter2") {
					t.Errorf("the value is in the message: %s", problem)
				}
			}
			if len(wrong) < len(test.want) {
				t.Errorf("not said: %q", test.want[len(wrong):])
			}
		})
	}
}

func TestConfigurationFile(t *testing.T) {
	w := newWorld(t, nil)
	if err := os.Mkdir(filepath.Join(w.dir, "app"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.key("ES384", "app/key.pem", "app")
	w.write("app/smartcred.yaml", "base_url: "+w.srv.URL+"\nallow_insecure_loopback: true\nclient_id: app\nscopes: [system/*.rs]\nsigner: file:key.pem\n")

	// Paths count from the file's folder, in flags from the working directory.
	w.run("token", "--config", "app/smartcred.yaml").ok()
	w.run("token", "--config", filepath.Join(w.dir, "app", "smartcred.yaml")).ok()
	w.run("token", "--config", "app/smartcred.yaml", "--signer", "file:app/key.pem").ok()
	w.run("token", "--config", "app/smartcred.yaml", "--signer", "file:key.pem").fails(exitBackend, "key.pem")
	w.write("app/secret", "value")
	w.srv.AddClient(smartauthtest.Client{ID: "secret-app", Secrets: []string{"value"}})
	w.write("app/secret.yaml", "base_url: "+w.srv.URL+"\nallow_insecure_loopback: true\nclient_id: secret-app\nscopes: [system/*.rs]\nsecret: file:secret\n")
	w.run("token", "--config", "app/secret.yaml").ok()

	w.run("token", "--config", "absent.yaml").fails(exitUsage, "--config: the file can't be read")
	w.run("token", "--config", "app").fails(exitUsage, "--config: the file can't be read")
	open := w.write("open.yaml", "client_id: a\n")
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	w.run("token", "--config", "open.yaml").fails(exitUsage, "group or others can write it")
}

func TestEverythingWrongIsSaidAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.write("bad.pem", "no key")
	w.write("bad.yaml", "base_ulr: x\nsigner: file:bad.pem\nassertion_lifetime: 1h\nca_file: absent\ntoken_params: {scope: x}\n")
	w.run("token", "--config", "bad.yaml", "--timeout=x", "--audience-scheme=ftp").fails(exitUsage,
		"10 things are wrong", "base_ulr: unknown", "base_url: is missing", "client_id: is missing", "scopes: is missing", "--timeout: is no duration",
		"--audience-scheme: is not one of", "assertion_lifetime: is over", "token_params: scope is reserved", "ca_file: can't be read", "signer: can't be used")

	var many strings.Builder
	for range 40 {
		many.WriteString(strings.Repeat("x", many.Len()%7+3) + "_" + strings.Repeat("y", many.Len()/50) + ": 1\n")
	}
	w.write("many.yaml", many.String())
	r := w.run("token", "--config", "many.yaml")
	r.fails(exitUsage, "… and ")
	if lines := strings.Count(r.stderr, "\n"); lines != maxLines {
		t.Errorf("%d lines, want %d:\n%s", lines, maxLines, r.stderr)
	}
}

func TestUsage(t *testing.T) {
	w := newWorld(t, nil)
	w.run().fails(exitUsage, "which command?", "token")
	w.run("tokn").fails(exitUsage, "unknown command")
	w.run("login").fails(exitUsage, "unknown command")
	w.run("--insecure-permissions", "token").fails(exitUsage, "--insecure-permissions: unknown here; flags follow the command")
	w.run("token", "--scope", "x").fails(exitUsage, "--scope: unknown; did you mean --scopes?")
	w.run("token", "--token-params", "x").fails(exitUsage, "--token-params: unknown here; it is a map")
	w.run("token", "--client-id").fails(exitUsage, "--client-id: has no value")
	w.run("token", "--json=hunter2").fails(exitUsage, "--json: has a value that is no bool")
	for _, args := range [][]string{{"token", "hunter2"}, {"token", "--client-secret", "hunter2"}, {"token", "--password=hunter2"}, {"token", "-phunter2"}, {"jwks", "hunter2"}, {"hunter2"}, {"token", "--json=hunter2"},
		{"token", "--hunter2"}, {"token", "--hunter2=x"}, {"--hunter2"}, {"rotation", "--hunter2"}, {"version", "--hunter2"}, {"completion", "bash", "hunter2"}} {
		r := w.run(args...)
		r.fails(exitUsage)
		if strings.Contains(r.stderr, "hunter2") {
			t.Errorf("%q: the value is printed: %s", args, r.stderr)
		}
	}
	w.run("token", "--"+strings.Repeat("x", 33)).fails(exitUsage, "token: an unknown flag")
	w.write("pasted.yaml", "hunter2: x\n")
	if r := w.run("token", "--config", "pasted.yaml"); r.status != exitUsage || strings.Contains(r.stderr, "hunter2") || !strings.Contains(r.stderr, "an unknown key; smartcred token --help lists all (line 1)") {
		t.Errorf("status %d, %s", r.status, r.stderr)
	}
	for _, args := range [][]string{{"--help"}, {"token", "--help"}, {"help", "jwks", "serve"}, {"version"}, {"completion", "bash"}} {
		if r := w.run(args...); r.ok() == "" || r.stderr != "" {
			t.Errorf("%q: standard output %q, standard error %q", args, r.stdout, r.stderr)
		}
	}
	help := w.run("token", "--help").ok()
	for i := range options {
		if o := &options[i]; (o.set != nil) != strings.Contains(help, "--"+o.flag()+" ") {
			t.Errorf("token --help and the flag of %s do not agree", o.key)
		}
	}
}

func FuzzConfiguration(f *testing.F) {
	all, err := os.ReadFile(filepath.Join("testdata", "all.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all)
	for _, seed := range []string{"", "a: b", "- a", "client_id: &x [*x]", "<<: *a", "plugins: {a: {path: b, sha256: 00, env: [c]}}", "token_params: {a: [b, c]}", "? {a: b}\n: c", "\xff\xfe", "a: !!binary aGk=", "scopes: [a\n", "timeout: 99999999h", "--- 1\n--- 2"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := defaults()
		root, err := document(data)
		problems := []error{err}
		if err == nil {
			problems = append(readFile(s, root, "dir"), s.check(needServer|needClient|needScopes|needMethod)...)
		}
		for _, problem := range problems {
			if problem != nil && (len(configProblems(problem)) == 0 || exitStatus(problem) != exitUsage) {
				t.Errorf("no configuration error: %v", problem)
			}
		}
		if s.timeout <= 0 || s.assertionLifetime <= 0 || s.publishFor <= 0 || s.overlap < 0 {
			t.Errorf("durations that are not: %+v", s)
		}
		var out strings.Builder
		if err := errors.Join(problems...); err != nil {
			(&messages{w: &out, left: maxLines}).failure("smartcred token", err)
		}
		if n := strings.Count(out.String(), "\n"); n > maxLines {
			t.Errorf("%d lines of messages", n)
		}
	})
}
