package vaulttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// A Cluster is several nodes on raft storage, of which one is active. The
// others, standbys, forward requests to it; one with the header
// X-Vault-No-Request-Forwarding they answer with a redirect (307) instead.
type Cluster struct {
	Nodes []*Server

	way way
}

// StartCluster starts a cluster that ends with the test. Two nodes are enough
// for a standby and for [Cluster.StepDown]; to outlive a stopped node it takes
// three.
func StartCluster(t testing.TB, nodes int) *Cluster {
	t.Helper()
	return startCluster(t, chooseOrSkip(t), nodes)
}

func startCluster(t testing.TB, w way, nodes int) *Cluster {
	t.Helper()
	c := &Cluster{}
	endWith(t, c.close)
	dir := t.TempDir()
	bounded(t, func(ctx context.Context) error { return c.start(ctx, w, dir, nodes) })
	return c
}

func (c *Cluster) start(ctx context.Context, w way, dir string, nodes int) error {
	var err error
	if c.way, err = w.join(ctx); err != nil {
		return err
	}
	var names []string
	for i := range nodes {
		names = append(names, fmt.Sprintf("vault%d", i))
	}
	ca, err := newAuthority(dir, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := newNode(dir, name, c.way)
		if err != nil {
			return err
		}
		s := serve(n, ca)
		c.Nodes = append(c.Nodes, s)
		first := c.Nodes[0]
		if err := n.configure(ca, first.node); err != nil {
			return err
		}
		if err := s.begin(ctx); err != nil {
			return err
		}
		if s == first {
			err = first.foundCluster(ctx)
		} else {
			s.RootToken, s.unsealKey, s.count = first.RootToken, first.unsealKey, first.count
			err = s.unseal(ctx)
		}
		if err != nil {
			return err
		}
	}
	return c.voting(ctx)
}

// foundCluster also lets later nodes vote without the ten seconds of probation.
func (s *Server) foundCluster(ctx context.Context) error {
	if err := s.found(ctx); err != nil {
		return err
	}
	c, err := s.client(s.RootToken)
	if err != nil {
		return err
	}
	_, err = c.Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration", map[string]any{"server_stabilization_time": "1ms"})
	if err != nil {
		return s.fail(fmt.Errorf("vaulttest: configure cluster: %w", err))
	}
	return nil
}

// voting waits until every node may become the leader.
func (c *Cluster) voting(ctx context.Context) error {
	first := c.Nodes[0]
	root, err := first.client(first.RootToken)
	if err != nil {
		return err
	}
	err = until(ctx, first.run, func() error {
		state, err := root.Sys().RaftAutopilotStateWithContext(ctx)
		if err != nil {
			return err
		}
		if len(state.Voters) < len(c.Nodes) {
			return fmt.Errorf("%d of %d nodes vote", len(state.Voters), len(c.Nodes))
		}
		return nil
	})
	if err != nil {
		return first.fail(fmt.Errorf("vaulttest: wait for cluster: %w", err))
	}
	return nil
}

func (c *Cluster) close(ctx context.Context) error {
	var errs []error
	for _, s := range c.Nodes {
		errs = append(errs, s.close(ctx))
	}
	if c.way != nil {
		errs = append(errs, c.way.close(ctx))
	}
	return errors.Join(errs...)
}

// Active returns the node that serves requests, once there is one.
func (c *Cluster) Active(t testing.TB) *Server {
	t.Helper()
	return c.find(t, true)
}

// Standby returns a running node that is not the active one, once there is one.
func (c *Cluster) Standby(t testing.TB) *Server {
	t.Helper()
	return c.find(t, false)
}

// find looks at every running node until one is, or is not, the leader.
func (c *Cluster) find(t testing.TB, active bool) *Server {
	t.Helper()
	var found *Server
	bounded(t, func(ctx context.Context) error {
		return until(ctx, always{}, func() error {
			for _, s := range c.Nodes {
				if s.run == nil {
					continue
				}
				client, err := s.client("")
				if err != nil {
					return err
				}
				leader, err := client.Sys().LeaderWithContext(ctx)
				if err == nil && leader.LeaderAddress != "" && leader.IsSelf == active {
					found = s
					return nil
				}
			}
			return errors.New("vaulttest: no node of the cluster is it")
		})
	})
	return found
}

// StepDown makes the active node a standby, and returns once another is active
// and all forward to it.
func (c *Cluster) StepDown(t testing.TB) {
	t.Helper()
	old := c.Active(t)
	if err := old.Root(t).Sys().StepDownWithContext(t.Context()); err != nil {
		t.Fatalf("vaulttest: step down: %v", err)
	}
	bounded(t, func(ctx context.Context) error {
		return until(ctx, always{}, func() error {
			if c.Active(t) == old {
				return errors.New("vaulttest: the same node is active again")
			}
			return nil
		})
	})
	for _, s := range c.Nodes {
		if s.run != nil {
			bounded(t, s.serving)
		}
	}
}

// always stands for a cluster, which doesn't end with a node.
type always struct{}

func (always) ended() <-chan struct{}     { return nil }
func (always) stop(context.Context) error { return nil }
