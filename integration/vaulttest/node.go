package vaulttest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// A node is one Vault server: what is kept while it is stopped.
type node struct {
	name  string
	root  string // the folder of all nodes of a server or cluster
	dir   string // its own folder, in root
	ports [2]int // on loopback: for clients, and for other nodes
	way   way
}

func newNode(root, name string, w way) (*node, error) {
	n := &node{name: name, root: root, dir: filepath.Join(root, name), way: w}
	if err := os.MkdirAll(n.storage(), 0o700); err != nil {
		return nil, fmt.Errorf("vaulttest: make folder: %w", err)
	}
	var err error
	n.ports, err = freePorts()
	return n, err
}

func (n *node) storage() string { return filepath.Join(n.dir, "storage") }
func (n *node) audit() string   { return filepath.Join(n.dir, "audit.log") }
func (n *node) address() string { return "https://" + hostAt("127.0.0.1")(n.ports[0]) }

// seen is the path under which the node itself knows a path in root.
func (n *node) seen(path string) string {
	rel, err := filepath.Rel(n.root, path)
	if err != nil {
		panic(err) // both are ours
	}
	return filepath.Join(n.way.folder(n.root), rel)
}

func (n *node) configFile() string { return n.seen(filepath.Join(n.dir, "config.json")) }

func (n *node) logFile() string { return filepath.Join(n.dir, "vault.log") }

func (n *node) openLog() (*os.File, error) {
	f, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("vaulttest: open log: %w", err)
	}
	return f, nil
}

// configure writes the node's configuration. With a leader it is a raft
// cluster's: the leader's own name stands for the first node.
func (n *node) configure(a *authority, leader *node) error {
	at := n.way.places(n.name, n.ports)
	storage := map[string]any{"file": map[string]any{"path": n.seen(n.storage())}}
	if leader != nil {
		raft := map[string]any{
			"path":                   n.seen(n.storage()),
			"node_id":                n.name,
			"performance_multiplier": "1", // elections in about a second
			// Only a voter can become the leader: a new node is to be one soon.
			"autopilot_reconcile_interval": "100ms",
			"autopilot_update_interval":    "100ms",
		}
		if leader != n {
			raft["retry_join"] = []any{map[string]any{
				"leader_api_addr":     n.way.places(leader.name, leader.ports).peer,
				"leader_ca_cert_file": n.seen(a.caFile),
			}}
		}
		storage = map[string]any{"raft": raft}
	}
	data, err := json.MarshalIndent(map[string]any{
		"storage": storage,
		"listener": []any{map[string]any{"tcp": map[string]any{
			"address":         at.listen,
			"cluster_address": at.cluster,
			"tls_cert_file":   n.seen(a.certFile),
			"tls_key_file":    n.seen(a.keyFile),
		}}},
		"api_addr":      n.address(), // where a standby sends clients
		"cluster_addr":  at.raft,
		"disable_mlock": true,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "config.json"), data, 0o600); err != nil {
		return fmt.Errorf("vaulttest: write configuration: %w", err)
	}
	return nil
}

// fail adds the end of the node's log to err.
func (n *node) fail(err error) error {
	out, readErr := os.ReadFile(n.logFile())
	if readErr != nil {
		return err
	}
	return fmt.Errorf("%w\nthe end of its log:\n%s", err, tail(out))
}

// until calls f every few milliseconds until it is done, r ends or ctx does.
func until(ctx context.Context, r running, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-r.ended():
			return errors.Join(errors.New("vaulttest: Vault has ended"), err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// freePorts returns two ports on loopback below those that systems give out by
// themselves, so that they are still free after a stop.
func freePorts() ([2]int, error) {
	for range 100 {
		first := 20000 + 2*rand.IntN(5000)
		if free(first) && free(first+1) {
			return [2]int{first, first + 1}, nil
		}
	}
	return [2]int{}, errors.New("vaulttest: find free ports: 100 pairs are in use")
}

func free(port int) bool {
	l, err := net.Listen("tcp", hostAt("127.0.0.1")(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// hostAt returns what joins host with a port.
func hostAt(host string) func(port int) string {
	return func(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
}

// copyTree replaces the folder to by a copy of from.
func copyTree(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(filepath.Join(to, rel), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			out.Close()
			return err
		}
		return out.Close()
	})
}
