package main

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

func (h *health) checkState(o *session) {
	if o.stateFile != "" { // it was opened, and its key read
		h.add("state", verdictOK, "%s can be read and locked", o.stateFile)
	}
}

// checkPlugins looks whether each program is pinned to its content.
func (h *health) checkPlugins(o *session) {
	for _, name := range slices.Sorted(maps.Keys(o.plugins)) {
		if o.plugins[name].sha256 == "" {
			h.add("plugin", verdictWarn, "%s: has no sha256, so whoever may replace %s chooses what runs; sha256sum prints it", name, o.plugins[name].path)
		}
	}
}

func (h *health) checkSecrets(ctx context.Context, o *session, horizon time.Time) {
	if o.secrets == nil {
		return
	}
	for _, stage := range []secretsource.Stage{secretsource.Current, secretsource.Previous} {
		if stage == secretsource.Previous && o.previous == previousNever {
			h.add("secret", verdictOK, "previous: never used, as previous: never says")
			continue
		}
		secret, err := o.secrets.Lookup(ctx, stage)
		switch {
		case stage == secretsource.Previous && errors.Is(err, smartcred.ErrNotFound):
			h.add("secret", verdictOK, "previous: there is none")
			continue
		case stage == secretsource.Previous && errors.Is(err, smartcred.ErrDenied):
			h.add("secret", verdictWarn, "previous: may not be read, so it is not used: %s", plainText(err))
			continue
		case err != nil:
			h.fail("secret", &provider.CredentialError{Op: "look up " + stage.String() + " client secret", Err: err})
			continue
		case o.isRevoked(secret.Version):
			status := verdictOK
			if stage == secretsource.Current {
				status = verdictFail
			}
			h.add("secret", status, "%s: version %s is revoked by the configuration", stage, secret.Version)
			continue
		}
		h.add("secret", verdictOK, "%s: version %s%s", stage, secret.Version, at(", since ", secret.Created))
		switch {
		case secret.Expires.IsZero():
		case !secret.Expires.After(time.Now()):
			h.add("expiry", verdictFail, "%s: version %s ended at %s", stage, secret.Version, when(secret.Expires))
		case !secret.Expires.After(horizon):
			h.add("expiry", verdictWarn, "%s: version %s ends at %s", stage, secret.Version, when(secret.Expires))
		default:
			h.add("expiry", verdictOK, "%s: version %s ends at %s", stage, secret.Version, when(secret.Expires))
		}
	}
}

// checkKeys signs with each key on trial. That the one which signs now can't is
// a failure of the signer; of another, something to look at.
func (h *health) checkKeys(ctx context.Context, o *session) {
	if o.keys == nil {
		return
	}
	candidates, err := o.keys.Candidates(ctx, nil)
	if err != nil {
		h.fail("signer", &provider.CredentialError{Op: "list keys", Err: err})
		return
	}
	for i, c := range candidates {
		err := o.signOnTrial(ctx, c.Key)
		switch {
		case err == nil:
			h.add("signer", verdictOK, "%s: kid %s, %s, signs", c.Role, c.Key.ID, c.Key.Algorithm)
		case i == 0:
			h.fail("signer", err)
		default:
			h.add("signer", verdictWarn, "%s: kid %s does not sign: %s", c.Role, c.Key.ID, plainText(err))
		}
		h.add("custody", verdictOK, "%s: kid %s, %s: %s", c.Role, c.Key.ID, c.Key.Custody.Level, c.Key.Custody.Evidence)
	}
	if !slices.ContainsFunc(candidates, func(c signer.Candidate) bool { return c.Role == signer.RoleCurrent }) {
		h.add("signer", verdictWarn, "no key is current: the first of these signs in its place")
	}
}

// checkServer asks for what needs no credential.
func (h *health) checkServer(ctx context.Context, o *session) {
	dated := &dates{base: o.transport}
	o.transport = dated
	client, asked, err := o.askingClient()
	if err != nil {
		h.fail("server", err)
		return
	}
	defer client.Close()
	if req, err := asked.request(ctx, client); err != nil {
		h.fail("server", err)
	} else if o.tokenEndpoint != "" {
		h.askStated(ctx, o)
	} else if doc, err := client.Discover(ctx); err != nil {
		h.fail("server", err)
	} else {
		h.add("server", verdictOK, "SMART configuration read, token endpoint %s may be used%s", withoutSecrets(req.URL), violated(doc))
	}
	h.addClock(dated)
}

func violated(doc *smartauth.Configuration) string {
	if len(doc.Violations()) == 0 {
		return ""
	}
	return "; smartcred discover shows what violates SMART in it"
}

// askStated asks for nothing at a token endpoint that is stated, where no
// discovery shows that the server is there.
func (h *health) askStated(ctx context.Context, o *session) {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, o.tokenEndpoint, nil)
	if err == nil {
		var resp *http.Response
		if resp, err = o.transport.RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
	}
	if err != nil {
		h.fail("server", &smartauth.ServerError{Op: "ask token endpoint", Err: err})
		return
	}
	h.add("server", verdictOK, "token endpoint %s answers; it is stated, so nothing is discovered", withoutSecrets(o.tokenEndpoint))
}

// notableSkew is the difference of clocks that may explain a refusal.
const notableSkew = 30 * time.Second

func (h *health) addClock(d *dates) {
	switch skew, known := d.skew(); {
	case !known:
		h.add("clock", verdictOK, "not compared: the server sent no Date")
	case skew.Abs() > notableSkew:
		h.add("clock", verdictWarn, "the server's clock minus ours is %s: over 30s, servers refuse assertions", skew)
	default:
		h.add("clock", verdictOK, "the server's clock minus ours is %s", skew)
	}
}

// dates is a RoundTripper that keeps the last Date it saw.
type dates struct {
	base  http.RoundTripper
	mu    sync.Mutex
	last  time.Duration
	known bool
}

// RoundTrip implements [http.RoundTripper].
func (d *dates) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if skew, ok := skewIn(resp.Header); ok {
		d.mu.Lock()
		d.last, d.known = skew, true
		d.mu.Unlock()
	}
	return resp, nil
}

// skewIn is the server's clock minus ours, by the Date of its answer.
func skewIn(h http.Header) (time.Duration, bool) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0, false
	}
	// Date has whole seconds: half of one is the middle of what it may mean.
	return time.Until(date.Add(500 * time.Millisecond)).Round(time.Second), true
}

func (d *dates) skew() (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last, d.known
}

// noticed keeps the warnings that the packages give while they are checked.
type noticed struct {
	mu     sync.Mutex
	events []smartcred.Event
}

// Observe implements [smartcred.Observer].
func (n *noticed) Observe(_ context.Context, e smartcred.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

// checkNoticed makes findings of the warnings.
func (h *health) checkNoticed(n *noticed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	modes := verdictOK
	for _, e := range n.events {
		switch e.Kind {
		case smartcred.EventInsecurePermissions:
			modes = verdictWarn
			h.add("permissions", verdictWarn, "%s: %s", e.Backend, e.Detail)
		case smartcred.EventKeyLeftOut, smartcred.EventStaleInUse, smartcred.EventMemoryFailed:
			h.add("notice", verdictWarn, "%s", eventText(e))
		}
	}
	if modes == verdictOK {
		h.add("permissions", verdictOK, "no file can be read or written by who should not")
	}
}
