package vault

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
)

// A standby forwards, or where it is told not to answers with a redirect; when the
// active node steps down there are outages for a moment, and nothing else.
func TestStandby(t *testing.T) {
	c := vaulttest.StartCluster(t, 2)
	active, standby := c.Active(t), c.Standby(t)
	mount := transitKey(t, active, "ecdsa-p384")
	token := active.Token(t, policy(transitPolicy, mount))
	t.Setenv("VAULT_CACERT", standby.CACert)
	t.Setenv("VAULT_ADDR", standby.Address)
	uri := "vault-transit://" + mount + "/smart" + query(map[string]string{"token_file": tokenFile(t, token)})
	forwarded := openSigner(t, uri, nil)
	works(t, forwarded)

	t.Run("redirect", func(t *testing.T) {
		target, err := url.Parse(standby.Address)
		if err != nil {
			t.Fatal(err)
		}
		redirected := 0
		front := vaulttest.NewFront(t, standby)
		front.Answer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Header.Set("X-Vault-No-Request-Forwarding", "true")
			},
			Transport: standby.Root(t).CloneConfig().HttpClient.Transport,
			ModifyResponse: func(r *http.Response) error {
				if r.StatusCode == http.StatusTemporaryRedirect {
					redirected++
				}
				return nil
			},
		})
		options := map[string]string{"address": front.Address, "token_file": tokenFile(t, token)}
		works(t, openSigner(t, "vault-transit://"+mount+"/smart"+query(options), nil))
		if redirected != 2 {
			t.Errorf("the standby answered %d times with a redirect, want 2", redirected)
		}
	})

	t.Run("step down under load", func(t *testing.T) {
		key := firstKey(t, forwarded)
		sign := func(ctx context.Context, _ string) error {
			_, err := forwarded.Sign(ctx, key, []byte("header.claims"))
			return err
		}
		l := startLoad(t, 50*time.Millisecond, func(err error) bool { return errors.Is(err, smartcred.ErrUnavailable) }, sign)
		l.await(t, func() bool { return true })
		c.StepDown(t)
		if c.Active(t) != standby {
			t.Error("the standby is not active after the other one stepped down")
		}
		eventually(t, func() error { return sign(t.Context(), "") })
		excused := l.excused.Load()
		l.await(t, func() bool { return true })
		if n := l.excused.Load() - excused; n > callers {
			t.Errorf("%d calls failed after the recovery", n)
		}
		l.finish(t)
	})
}
