package program

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
	"github.com/smartcred/smartcred/secretsource"
)

// An Inspection is how a program keeps the protocol.
type Inspection struct {
	// LongLived says that one process answers all requests.
	LongLived bool
	// Signer and Source say what the program can be.
	Signer, Source bool
	// Findings has the promises that were looked at, in order.
	Findings []Finding
}

// A Finding is one promise of the protocol.
type Finding struct {
	// Promise says what the program must do.
	Promise string
	// Err is how it broke the promise; nil: it keeps it.
	Err error
}

// laterVersion is a protocol version that nobody speaks.
const laterVersion = 1 << 30

// Inspect starts the program that a plugin: URI names, several times, and looks
// whether it keeps the protocol's promises. It asks for no secret, key or
// signature: the conformance kits do. The error is that the program may not be
// run; what it does wrong is among the findings. ctx bounds the whole.
func Inspect(ctx context.Context, uri string, opts *secretsource.OpenOptions) (*Inspection, error) {
	if opts == nil {
		opts = &secretsource.OpenOptions{}
	}
	u, err := url.Parse(uri) // its errors quote the URI
	if err != nil || u.Scheme != scheme {
		return nil, fmt.Errorf("program: inspect: %w", &smartcred.ConfigError{Problem: "not a plugin: URI"})
	}
	r, err := newRunner(u, opts, nil)
	if err != nil {
		return nil, fmt.Errorf("program: inspect: %w", err)
	}
	defer r.Close()
	i := &Inspection{}
	said := i.hello(ctx, r)
	if said == nil {
		return i, nil // nothing else can be asked
	}
	i.LongLived = said.Mode == wire.LongLived
	for _, role := range said.Roles {
		i.Signer = i.Signer || role == wire.RoleSigner
		i.Source = i.Source || role == wire.RoleSource
	}
	i.find("refuses protocol versions that it does not speak", i.otherVersion(ctx, r))
	i.find("chooses a version that it speaks, and passes over members that it does not know", i.someVersion(ctx, r))
	i.find("refuses methods that it does not know", i.otherMethod(ctx, r))
	if i.LongLived {
		i.find("ends with status 0 when its input ends", i.end(ctx, r))
	}
	return i, nil
}

func (i *Inspection) find(promise string, err error) {
	i.Findings = append(i.Findings, Finding{Promise: promise, Err: err})
}

// with runs one process, and waits for a one-shot program to end.
func (i *Inspection) with(ctx context.Context, r *runner, use func(context.Context, *process) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.startTimeout)
	defer cancel()
	r.mu.Lock()
	p, err := r.spawn(ctx)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		p.end(smartcred.ErrClosed)
		<-p.done
	}()
	if err := use(ctx, p); err != nil {
		return err
	}
	if !i.LongLived {
		return p.settle(ctx)
	}
	return nil
}

func (i *Inspection) hello(ctx context.Context, r *runner) (said *wire.HelloAnswer) {
	i.LongLived = true // until it says so
	err := i.with(ctx, r, func(ctx context.Context, p *process) error {
		answer, err := p.greet(ctx)
		if err != nil {
			return err
		}
		said = &answer
		if i.LongLived = answer.Mode == wire.LongLived; len(answer.Roles) == 0 {
			return errors.New("it is neither signer nor source")
		}
		return nil
	})
	i.find("says which version of the protocol it speaks, how it lives and what it can be", err)
	if err != nil {
		return nil
	}
	return said
}

func (i *Inspection) otherVersion(ctx context.Context, r *runner) error {
	return i.with(ctx, r, func(ctx context.Context, p *process) error {
		answer, err := p.ask(ctx, &wire.Request{Method: wire.Hello, Protocols: []int{laterVersion}}, false)
		return refused(answer, err, wire.CodeUnsupportedProtocol)
	})
}

func refused(answer *wire.Answer, err error, code string) error {
	switch {
	case err != nil:
		return err
	case answer.Error == nil:
		return errors.New("it does not refuse: the answer is to be an error, " + code)
	case answer.Error.Code != code:
		return errors.New("it refuses with another error than " + code)
	}
	return nil
}

func (i *Inspection) someVersion(ctx context.Context, r *runner) error {
	return i.with(ctx, r, func(ctx context.Context, p *process) error {
		answer, err := p.ask(ctx, &wire.Request{Method: wire.Hello, Protocols: []int{laterVersion, wire.Version}, Unknown: `"protocols":[0]`}, false)
		if err != nil {
			return err
		}
		if answer.Error != nil {
			return errors.New("it refuses")
		}
		said, err := answer.Hello()
		if err == nil && said.Protocol != wire.Version {
			err = errors.New("it chooses another version than it did")
		}
		return err
	})
}

// otherMethod asks twice at once: each answer must come, and have its request's id.
func (i *Inspection) otherMethod(ctx context.Context, r *runner) error {
	return i.with(ctx, r, func(ctx context.Context, p *process) error {
		future := func() error {
			answer, err := p.ask(ctx, &wire.Request{Method: "no_such_method", Protocol: wire.Version, Target: r.target()}, !i.LongLived)
			return refused(answer, err, wire.CodeUnsupportedMethod)
		}
		if !i.LongLived {
			return future()
		}
		if _, err := p.greet(ctx); err != nil {
			return err
		}
		second := make(chan error, 1)
		go func() { second <- future() }()
		err := future()
		return errors.Join(err, <-second)
	})
}

func (i *Inspection) end(ctx context.Context, r *runner) error {
	return i.with(ctx, r, func(ctx context.Context, p *process) error {
		if _, err := p.greet(ctx); err != nil {
			return err
		}
		_ = p.stdin.Close()
		return p.settle(ctx)
	})
}
