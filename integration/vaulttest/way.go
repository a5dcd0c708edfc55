package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

const (
	envWay    = "SMARTCRED_TEST_VAULT"
	envImage  = "SMARTCRED_TEST_VAULT_IMAGE"
	envReport = "SMARTCRED_TEST_VAULT_REPORT"

	tether = "VAULTSERVER_ENDS_WITH_STDIN" // known to vaultserver/
)

// A way runs nodes: as containers or as processes.
type way interface {
	fmt.Stringer
	start(ctx context.Context, n *node) (running, error)
	join(ctx context.Context) (way, error)   // the way for nodes of one new cluster
	folder(dir string) string                // where a node sees the server's folder
	places(name string, ports [2]int) places // where a node listens and is reached by its peers
	here() (listen, host string)             // where the test listens for nodes, and by which name they reach it
	close(ctx context.Context) error         // ends what join made
}

// A running is a node's life. stop ends it at once and is called once.
type running interface {
	ended() <-chan struct{}
	stop(ctx context.Context) error
}

// places are a node's addresses, as seen by itself and by its peers.
type places struct {
	listen, cluster string // host:port
	peer, raft      string // URLs
}

// ErrNone says that the environment asks for no Vault.
var ErrNone = errors.New("vaulttest: " + envWay + "=none: no Vault for these tests")

var chosen struct {
	sync.Mutex
	way  way
	err  error
	done bool
}

// Prepare decides which way the tests of this machine take, makes ready what it
// needs, and returns it in words. Whatever it has to pull or build it does once
// for all later runs.
func Prepare(ctx context.Context) (string, error) {
	w, err := choose(ctx)
	if err != nil {
		return "", err
	}
	return w.String(), nil
}

func choose(ctx context.Context) (way, error) {
	chosen.Lock()
	defer chosen.Unlock()
	if !chosen.done {
		chosen.way, chosen.err = decide(ctx)
		chosen.done = true
		report(chosen.way, chosen.err)
	}
	return chosen.way, chosen.err
}

func decide(ctx context.Context) (way, error) {
	switch asked := os.Getenv(envWay); asked {
	case "none":
		return nil, ErrNone
	case "container":
		return newDocker(ctx)
	case "process":
		return newProcess(ctx)
	case "":
	default:
		return nil, fmt.Errorf("vaulttest: %s=%s: want container, process or none", envWay, asked)
	}
	p, err := newProvider(ctx)
	if err != nil {
		w, err := newProcess(ctx)
		if err != nil {
			return nil, err
		}
		w.why = "Docker does not answer"
		return w, nil
	}
	p.Close()
	return newDocker(ctx)
}

func newProcess(ctx context.Context) (*process, error) {
	path, _, err := binary(ctx, runtime.GOOS)
	if err != nil {
		return nil, err
	}
	return &process{binary: path}, nil
}

// report tells which way this test binary took, in the file that the
// environment names: the output of tests that pass is not shown.
func report(w way, err error) {
	path := os.Getenv(envReport)
	if path == "" {
		return
	}
	line := fmt.Sprintf("vault: failed: %v", err)
	switch {
	case err == nil:
		line = "vault: " + w.String()
	case errors.Is(err, ErrNone):
		line = "vault: none"
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vaulttest: report:", err)
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s (%s)\n", line, filepath.Base(os.Args[0])) // one write: test binaries share the file
}
