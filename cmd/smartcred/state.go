package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
)

// openState opens the file that carries over what was learned of credentials.
// Versions of values without any are keyed by it too, so that they are the same
// in every run.
func (o *session) openState(ctx context.Context, needs need) error {
	if o.stateFile == "" || needs&(needMethod|needState|needRevoke) == 0 {
		return nil
	}
	memory := rotation.File(o.stateFile)
	key, err := rotation.Key(ctx, memory)
	if err != nil {
		return &smartcred.ConfigError{Option: "state_file", Problem: "can't be used", Err: err}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("smartcred fingerprint key"))
	o.memory, o.fingerprintKey = memory, mac.Sum(nil)
	return nil
}

// rotationOptions is what the settings say about refused credentials.
func (o *session) rotationOptions() *provider.RotationOptions {
	r := &provider.RotationOptions{
		Memory:   o.memory,
		Previous: provider.PreviousUse(o.previous),
		Overlap:  max(o.overlap, time.Nanosecond), // for the library 0 is its default
		Observer: o.observer,
	}
	for _, refusal := range o.alsoRefusal {
		r.AlsoRefusal = append(r.AlsoRefusal, provider.Refusal(refusal))
	}
	if o.method() != provider.MethodPrivateKeyJWT { // a key set has its own list
		r.Revoked = o.revoked
	}
	return r
}

// scope is the client and server whose state is meant.
func (s *settings) scope() rotation.Scope {
	return rotation.Scope{ClientID: s.clientID, Server: strings.TrimRight(s.baseURL, "/")}
}

// learned reads and forgets state without a credential at hand.
func (o *session) learned() *rotation.Engine[struct{}] {
	return rotation.New[struct{}](&rotation.Options{Memory: o.memory, Observer: o.observer})
}
