package main

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// What the configuration revokes leaves the set of a process that runs, within a
// minute; a configuration with a mistake in it takes nothing back.
func TestServeFollowsRevoked(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"key.pem", "key.pem.previous"} {
		w.run("keygen", "--alg", "ES384", "--out", name).ok()
	}
	set := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem").ok())
	previous := set.Keys[1].KeyID
	const signs = "signer: file:key.pem\n"
	file := w.write("smartcred.yaml", signs)

	synctest.Test(t, func(t *testing.T) {
		cmd := &cobra.Command{Use: "test"}
		c := addConfiguration(cmd)
		if err := cmd.ParseFlags([]string{"--config", file}); err != nil {
			t.Fatal(err)
		}
		o, err := c.open(t.Context(), needSigner, smartcred.Discard)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		var said strings.Builder
		go c.followRevoked(t.Context(), o, slog.New(slog.NewTextHandler(&said, nil)))
		published := func(text string) int {
			t.Helper()
			w.write("smartcred.yaml", text)
			time.Sleep(rereadConfiguration + time.Second)
			synctest.Wait()
			keys, err := o.published(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(keys)
		}
		for _, test := range []struct {
			text string
			want int
			says string
		}{
			{signs, 2, ""},
			{signs + "revoked: [" + previous + "]\n", 1, "revoked changed"},
			{signs + "revokd: []\n", 1, "can't be read again"},
			{signs + "revokd: []\n", 1, ""}, // said once
			{signs + "revoked: [" + previous + "\n", 1, "can't be read again"},
			{signs, 2, "revoked changed"},
		} {
			said.Reset()
			if got := published(test.text); got != test.want {
				t.Errorf("%q: %d keys published, want %d", test.text, got, test.want)
			}
			if got := said.String(); test.says == "" && got != "" || !strings.Contains(got, test.says) {
				t.Errorf("%q: logged %q, want %q", test.text, got, test.says)
			}
		}
	})
}

// previous: never holds for what is published too.
func TestPreviousNeverIsNotPublished(t *testing.T) {
	w := newWorld(t, nil)
	for _, name := range []string{"key.pem", "key.pem.next", "key.pem.previous"} {
		w.run("keygen", "--alg", "ES384", "--out", name).ok()
	}
	all := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem").ok())
	left := decodeJSON[signer.JWKSet](t, w.run("jwks", "--signer", "file:key.pem", "--previous", "never").ok())
	if len(left.Keys) != 2 || left.Keys[0] != all.Keys[0] || left.Keys[1] != all.Keys[1] {
		t.Errorf("published: %v of %v", left, all)
	}
}
