package pluginmain

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/plugins/program/internal/deadline"
	"github.com/smartcred/smartcred/plugins/program/internal/wire"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// A server answers the requests of one parent.
type server struct {
	plugin   Plugin
	failed   context.CancelFunc // ends the serving
	requests flight.Gate

	lines  *bufio.Reader // of who reads: one goroutine at a time
	turn   atomic.Uint64 // of reading: even while a request is awaited, odd while one is answered
	active chan struct{} // told of requests, for watch
	ended  chan error    // has room for one

	writing  sync.Mutex
	out      io.Writer
	writeErr error

	mu      sync.Mutex
	targets map[string]*target
}

// serve reads requests until the input ends. It may leave a goroutine that reads
// in, when writing failed.
func (s *server) serve(ctx context.Context, in io.Reader) error {
	s.lines = bufio.NewReaderSize(in, 16<<10)
	s.ended = make(chan error, 1)
	s.active = make(chan struct{}, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go s.watch(watching, ctx)
	go s.read(ctx)
	select {
	case err := <-s.ended:
		return err
	case <-ctx.Done():
		return s.writeError()
	}
}

// read answers requests on this goroutine, because a request that is answered soon
// needs no other, until the input ends, or watch made another one read.
func (s *server) read(ctx context.Context) {
	for {
		line, err := readLine(s.lines)
		if errors.Is(err, io.EOF) {
			s.ended <- s.writeError()
			return
		}
		var req *wire.Request
		if err == nil {
			req, err = wire.ParseRequest(line)
		}
		if err != nil {
			s.ended <- fmt.Errorf("read request: %w", err)
			return
		}
		if req.Method == wire.Hello {
			s.answer(req.ID, s.hello(req))
			continue
		}
		if !s.requests.Enter() {
			return
		}
		turn := s.turn.Add(1) // odd: it is being answered
		select {
		case s.active <- struct{}{}:
		default:
		}
		s.handle(ctx, req)
		s.requests.Leave()
		if !s.turn.CompareAndSwap(turn, turn+1) {
			return
		}
	}
}

// slow is how long a request may take on the reader's goroutine.
const slow = time.Millisecond

// watch makes another goroutine read while a request takes long. It looks at what
// is read only while there is something.
func (s *server) watch(ctx, reading context.Context) {
	tick := time.NewTicker(slow)
	defer tick.Stop()
	seen, idle := uint64(0), 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		turn := s.turn.Load()
		switch {
		case turn != seen:
			seen, idle = turn, 0
		case turn%2 == 1 && s.turn.CompareAndSwap(turn, turn+1):
			go s.read(reading)
		default:
			idle++
		}
		if idle < maxIdle {
			continue
		}
		tick.Stop()
		select {
		case <-s.active:
		case <-ctx.Done():
			return
		}
		idle = 0
		tick.Reset(slow)
	}
}

// maxIdle is how many looks without a request end the looking.
const maxIdle = 20

func (s *server) handle(ctx context.Context, req *wire.Request) {
	ctx, cancel := deadline.WithTimeout(ctx, time.Duration(req.TimeoutMS)*time.Millisecond)
	defer cancel()
	members, err := s.do(ctx, req)
	if err != nil {
		if !errors.Is(err, smartcred.ErrNotFound) { // often there is no previous secret
			slog.InfoContext(ctx, "a request failed", "method", req.Method, "error", err)
		}
		members = wire.FailureOf(err).Members()
	}
	s.answer(req.ID, members)
}

// readLine returns the next line, good until the next call; one that is cut off by
// the end is io.EOF.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) && len(long) <= wire.MaxLine {
		line, err = in.ReadSlice('\n')
		long = append(long, line...)
	}
	if len(long) > wire.MaxLine {
		return nil, fmt.Errorf("a line of more than %d bytes", wire.MaxLine)
	}
	return long, err
}

func (s *server) answer(id uint64, members any) {
	line, err := wire.AnswerLine(id, members)
	s.writing.Lock()
	defer s.writing.Unlock()
	if err == nil {
		_, err = s.out.Write(line)
	}
	if err != nil && s.writeErr == nil {
		s.writeErr = fmt.Errorf("write answer: %w", err)
		s.failed()
	}
}

func (s *server) writeError() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.writeErr
}

func (s *server) hello(req *wire.Request) any {
	if !slices.Contains(req.Protocols, wire.Version) {
		return (&wire.Failure{Code: wire.CodeUnsupportedProtocol}).Members()
	}
	var roles []string
	if s.plugin.Signer != nil {
		roles = append(roles, wire.RoleSigner)
	}
	if s.plugin.Source != nil {
		roles = append(roles, wire.RoleSource)
	}
	return map[string]any{"protocol": wire.Version, "mode": wire.LongLived, "roles": roles}
}

// do returns an answer's members.
func (s *server) do(ctx context.Context, req *wire.Request) (any, error) {
	if req.Protocol != wire.Version {
		return (&wire.Failure{Code: wire.CodeUnsupportedProtocol}).Members(), nil
	}
	switch {
	case req.Method == wire.Lookup && s.plugin.Source != nil:
		src, err := s.source(ctx, req)
		if err != nil {
			return nil, err
		}
		return lookup(ctx, src, req)
	case req.Method == wire.Keys && s.plugin.Signer != nil:
		t, err := s.signer(ctx, req)
		if err != nil {
			return nil, err
		}
		return keys(ctx, t)
	case req.Method == wire.Sign && s.plugin.Signer != nil:
		t, err := s.signer(ctx, req)
		if err != nil {
			return nil, err
		}
		return sign(ctx, t, req)
	default:
		return (&wire.Failure{Code: wire.CodeUnsupportedMethod}).Members(), nil
	}
}

func lookup(ctx context.Context, src secretsource.Source, req *wire.Request) (any, error) {
	stage := secretsource.Current
	switch req.Stage {
	case secretsource.Current.String():
	case secretsource.Previous.String():
		stage = secretsource.Previous
	default:
		return nil, fmt.Errorf("stage: %w", smartcred.ErrNotFound)
	}
	secret, err := src.Lookup(ctx, stage)
	if err != nil {
		return nil, err
	}
	value := secret.Reveal()
	members := wire.SecretMembers{Version: secret.Version}
	if utf8.Valid(value) && !slices.Contains([]rune(string(value)), utf8.RuneError) {
		members.Secret = string(value)
	} else {
		members.SecretBase64 = value
	}
	if created := secret.Created.UTC(); !created.IsZero() {
		members.Created = &created
	}
	if expires := secret.Expires.UTC(); !expires.IsZero() {
		members.Expires = &expires
	}
	return members, nil
}

func keys(ctx context.Context, t *target) (any, error) {
	listed, err := t.list(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]map[string]any, 0, len(listed))
	for _, k := range listed {
		members, err := wire.KeyMembers(k)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		all = append(all, members)
	}
	return map[string]any{"keys": all}, nil
}

func sign(ctx context.Context, t *target, req *wire.Request) (any, error) {
	key, err := t.key(ctx, req.Key)
	if err != nil {
		return nil, err
	}
	if key.Algorithm, err = signer.AlgorithmFor(key.Public, signer.Algorithm(req.Algorithm)); err != nil {
		return nil, err
	}
	signature, err := t.signer.Sign(ctx, key, req.Input)
	if err != nil {
		return nil, err
	}
	return map[string]any{"signature": signature}, nil
}
