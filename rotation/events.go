package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/smartcred/smartcred"
)

func (c *caller[C]) notifyFallback(ctx context.Context, next candidate[C]) {
	last := c.refused
	c.engine.notify(ctx, c.call.Scope, smartcred.Event{
		Kind: smartcred.EventCredentialFallback, Version: last.Version, KeyID: last.KeyID, Err: last.err,
		Detail: fmt.Sprintf("the %s credential was refused; the %s one, version %s, is tried", last.Stage, next.Stage, next.Version),
	})
}

func (c *caller[C]) notifySelected(ctx context.Context, x candidate[C], adopted, backedOff bool) {
	detail := fmt.Sprintf("the %s credential is in use", x.Stage)
	if backedOff {
		detail += " after all were refused"
	}
	if adopted {
		detail = "the server took a staged credential after it refused the current one: it is in use here until a newer one is ready"
	}
	c.engine.notify(ctx, c.call.Scope, smartcred.Event{
		Kind: smartcred.EventCredentialSelected, Version: x.Version, KeyID: x.KeyID, Detail: detail,
	})
}

func (c *caller[C]) notifyAllRefused(ctx context.Context, failed *RefusedError) {
	current := c.current
	c.engine.notify(ctx, c.call.Scope, smartcred.Event{
		Kind: smartcred.EventAllRefused, Version: current.Version, KeyID: current.KeyID, Err: failed,
		Detail: fmt.Sprintf("nothing is sent for %s, unless the source has another value", time.Until(failed.Until).Round(time.Second)),
	})
}

// notifyLate warns once a day that a credential past its time is in force.
func (c *caller[C]) notifyLate(ctx context.Context, x candidate[C], now time.Time) {
	c.state.mu.Lock()
	due := now.Unix()-c.state.late >= int64(24*time.Hour/time.Second)
	if due {
		c.state.late = now.Unix()
	}
	c.state.mu.Unlock()
	if due {
		c.engine.notify(ctx, c.call.Scope, smartcred.Event{
			Kind: smartcred.EventPreviousInForce, Version: x.Version, KeyID: x.KeyID,
			Detail: "the server takes the previous credential only, and the time that both may overlap is over: register the current one there",
		})
	}
}
