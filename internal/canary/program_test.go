package canary

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program"
	"github.com/smartcred/smartcred/plugins/program/pluginmain"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

const pluginToken = "pT5vK9wX2mQ7nZ4rB8tL1cD6fS3hG0jY"

// pluginScript is a plugin that answers with all that it was given. $said is
// that, with nothing in it that a JSON string would end at.
const pluginScript = `#!/bin/sh
quiet() {
	rest=$1 said=
	while :; do
		case $rest in
		*[\"\\]*) head=${rest%%[\"\\]*}; said="$said$head'"; rest=${rest#"$head"?} ;;
		*) break ;;
		esac
	done
	said=$said$rest
}
while read -r line; do
	id=${line#*:} id=${id%%,*}
	all="$line $CANARY_PLUGIN_TOKEN $CANARY_SECRET"
	quiet "$all"
	case $line in
	*'"method":"hello"'*) HELLO ;;
	*) ANSWER ;;
	esac
done
`

const pluginHello = `printf '{"id":%s,"protocol":1,"mode":"long-lived","roles":["signer","source"]}\n' "$id"`

// pluginModes are what a bad plugin says to hello, and to all else; empty: what a
// good one does.
var pluginModes = map[string][2]string{
	"values":           {"", `printf '{"id":%s,"secret":"%s","version":"7","keys":[{"version":"1","public_key":"%s"}],"signature":"%s"}\n' "$id" "$CANARY_PLUGIN_TOKEN" "$said" "$said"`},
	"standard error":   {pluginHello + `; printf '%s\n%s\n' "$all" "$said" >&2`, `printf '%s\n%s\n' "$all" "$said" >&2; printf '{"id":%s,"error":{"code":"denied"}}\n' "$id"`},
	"garbage":          {"", `printf '%s\n' "$all"`},
	"garbage at hello": {`printf '%s\n' "$all"`, ""},
	"members":          {"", `printf '{"id":%s,"%s":"%s"}\n' "$id" "$said" "$said"`},
	"members of hello": {`printf '{"id":%s,"protocol":1,"mode":"%s","roles":["%s"]}\n' "$id" "$said" "$said"`, ""},
	"protocol":         {`printf '{"id":%s,"protocol":"%s"}\n' "$id" "$said"`, ""},
	"names":            {"", `printf '{"id":%s,"secret":"x","version":"%s","keys":[{"version":"%s","id":"%s"}],"signature":"%s"}\n' "$id" "$said" "$said" "$said" "$said"`},
	"bytes":            {"", `printf '{"id":%s,"secret_base64":"%s","keys":{"%s":1},"signature_der":"%s"}\n' "$id" "$said" "$said" "$said"`},
	"times":            {"", `printf '{"id":%s,"secret":"x","created":"%s","keys":["%s"]}\n' "$id" "$said" "$said"`},
	"code":             {"", `printf '{"id":%s,"error":{"code":"%s","message":"%s"}}\n' "$id" "$said" "$said"`},
	"message":          {"", `printf '{"id":%s,"error":{"code":"invalid_config","message":"%s","%s":1}}\n' "$id" "$said" "$said"`},
	"retry":            {"", `printf '{"id":%s,"error":{"code":"unavailable","retry_after_ms":"%s"}}\n' "$id" "$said"`},
	"id":               {"", `printf '{"id":"%s"}\n' "$said"`},
	"end":              {"", `printf '%s\n' "$said" >&2; exit 3`},
	"end at hello":     {`printf '%s' "$said" >&2; exit 3`, ""},
	"algorithm":        {"", `printf '{"id":%s,"secret":"x","keys":[{"version":"1","public_key":"%s","algorithm":"%s"}]}\n' "$id" 'PUBLIC' "$said"`},
	"evidence":         {"", `printf '{"id":%s,"secret":"x","keys":[{"version":"1","public_key":"%s","evidence":"%s"}]}\n' "$id" 'PUBLIC' "$CANARY_PLUGIN_TOKEN"`},
	"half a line":      {"", `printf '{"id":%s,"secret":"%s' "$id" "$said"; exit 0`},
}

func testProgram(t *testing.T) {
	w := newCommonWatch(t)
	w.secret("plugin's token", pluginToken)
	t.Setenv("CANARY_PLUGIN_TOKEN", pluginToken)
	t.Setenv("CANARY_SECRET", clientSecret)
	folder, err := os.MkdirTemp("", "canary-") // for this user alone, as programs must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	var messages atomic.Int32
	observer := smartcred.ObserverFunc(func(ctx context.Context, e smartcred.Event) {
		if e.Kind == smartcred.EventPluginMessage {
			messages.Add(1)
		}
		w.observe(ctx, e)
	})
	opts := &secretsource.OpenOptions{Plugins: map[string]secretsource.Plugin{}, Observer: observer, FingerprintKey: []byte(fingerprintKey)}
	der, err := x509.MarshalPKIXPublicKey(newKey(t, w).Public())
	if err != nil {
		t.Fatal(err)
	}
	public := strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "\n", `\n`)
	for name, mode := range pluginModes {
		hello, answer := mode[0], mode[1]
		if hello == "" {
			hello = pluginHello
		}
		if answer == "" {
			answer = ":"
		}
		name = strings.ReplaceAll(name, " ", "-")
		path := filepath.Join(folder, name)
		text := strings.NewReplacer("HELLO", hello, "ANSWER", answer).Replace(pluginScript)
		text = strings.ReplaceAll(text, "PUBLIC'", public+"'")
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		opts.Plugins[name] = secretsource.Plugin{Path: path, Env: []string{"CANARY_PLUGIN_TOKEN", "CANARY_SECRET"}}
	}
	for name := range opts.Plugins {
		inspection, err := program.Inspect(t.Context(), "plugin://"+name, opts)
		w.err("inspect", err)
		if err == nil {
			w.print("inspection", inspection)
			for _, f := range inspection.Findings {
				w.err("finding", f.Err)
			}
		} else if runtime.GOOS != "windows" {
			t.Errorf("%s: %v", name, err)
		}
		usePlugin(t, w, opts, "plugin://"+name+"/smart/app")
	}
	if runtime.GOOS != "windows" { // where programs are refused
		src, err := secretsource.Open(t.Context(), "plugin://values/x", opts)
		if err != nil {
			t.Fatal(err)
		}
		if secret, err := src.Lookup(t.Context(), secretsource.Current); string(secret.Reveal()) != pluginToken {
			t.Errorf("a plugin that works: %v", err)
		}
		w.err("close", src.(io.Closer).Close())
		if messages.Load() < 5 {
			t.Errorf("%d messages of plugins", messages.Load())
		}
	}

	w.print("plugins", opts.Plugins)
	opts.Plugins["hash"] = secretsource.Plugin{Path: filepath.Join(folder, "values"), SHA256: pluginToken}
	opts.Plugins["env"] = secretsource.Plugin{Path: filepath.Join(folder, "values"), Env: []string{"X=" + pluginToken}}
	opts.Plugins["folder"] = secretsource.Plugin{Path: folder}
	opts.Plugins["relative"] = secretsource.Plugin{Path: "values"}
	for _, uri := range []string{
		"plugin://hash/x", "plugin://env/x", "plugin://folder", "plugin://relative", "plugin://none/x", "plugin://user:" + accessToken + "@values/x", "plugin://values/%zz" + accessToken,
		"plugin://values/x?a=" + accessToken + "&a=2", "plugin:" + accessToken, "plugin:///" + accessToken, "plugin://values/x?a=%zz" + accessToken, "plugin://values?" + url.QueryEscape(clientSecret), "plugin://" + clientSecret, "plugin://values:" + accessToken + "/",
	} {
		usePlugin(t, w, opts, uri)
		_, err := program.Inspect(t.Context(), uri, opts)
		w.err("inspect", err)
	}
	testPluginMain(t, w)
}

// usePlugin uses a plugin: URI as both that it may be.
func usePlugin(t *testing.T, w *watch, opts *secretsource.OpenOptions, uri string) {
	for _, field := range []string{"", "#client_secret"} {
		src, err := secretsource.Open(t.Context(), uri+field, opts)
		w.err("open", err)
		if err != nil {
			continue
		}
		for stage := range secretsource.Previous + 1 {
			secret, err := src.Lookup(t.Context(), stage)
			w.err("look up", err)
			w.value("secret", secret)
		}
		w.err("close", src.(io.Closer).Close())
		w.value("source", src) // fmt takes no locks: nobody else may use what it prints
	}
	s, err := signer.Open(t.Context(), uri, &signer.OpenOptions{OpenOptions: *opts})
	w.err("open", err)
	if err != nil {
		return
	}
	keys, err := s.Keys(t.Context())
	w.err("list", err)
	w.print("keys", keys)
	_, err = s.Sign(t.Context(), signer.Key{ID: "kid", Version: "1", Algorithm: signer.ES384, Public: newKey(t, w).Public()}, []byte("input"))
	w.err("sign", err)
	w.err("close", s.(io.Closer).Close())
	w.value("signer", s)
}

// testPluginMain serves requests that are not what they should be.
func testPluginMain(t *testing.T, w *watch) {
	plugin := pluginmain.Plugin{
		Source: func(_ context.Context, u *url.URL, _ *secretsource.OpenOptions) (secretsource.Source, error) {
			_, err := secretsource.CheckQuery(u)
			return twoSecrets(), err
		},
		Signer: func(_ context.Context, u *url.URL, _ *signer.OpenOptions) (signer.Signer, error) {
			_, err := secretsource.CheckQuery(u)
			if err != nil {
				return nil, err
			}
			return signer.FromCryptoSigner(newKey(t, w), nil)
		},
	}
	w.print("plugin", plugin)
	for _, line := range []string{
		accessToken, `{"id":1,"method":"` + accessToken + `"}`, `{"id":1,"method":"hello","protocols":["` + accessToken + `"]}`, `{"id":"` + accessToken + `"}`,
		`{"id":1,"method":"lookup","protocol":1,"options":{"` + accessToken + `":"` + accessToken + `"}}`, `{"id":1,"method":"lookup","protocol":1,"stage":"` + accessToken + `"}`,
		`{"id":1,"method":"lookup","protocol":1,"path":"%zz` + accessToken + `","options":{"token":"` + accessToken + `"}}`, `{"id":1,"method":"keys","protocol":1}`,
		`{"id":1,"method":"sign","protocol":1,"key":"` + accessToken + `","algorithm":"` + accessToken + `","input":"eA=="}`, `{"id":1,"method":"sign","protocol":1,"input":"` + accessToken + `!"}`,
		`{"id":1,"method":"keys","protocol":1,"configured_algorithm":"` + accessToken + `"}`, `{"id":1,"method":"keys","` + accessToken,
	} {
		var out bytes.Buffer
		err := pluginmain.Serve(t.Context(), plugin, strings.NewReader(line+"\n"), &out)
		w.err("serve", err)
		w.text("answer of a plugin", out.String())
	}
}
