package vaulttest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// A process is a node that runs as a child of the test binary.
type process struct {
	binary string
	why    string // why not a container; empty: asked for
}

func (p *process) String() string {
	if p.why != "" {
		return "process (" + p.why + ")"
	}
	return "process"
}

func (p *process) join(context.Context) (way, error) { return p, nil }

func (p *process) start(_ context.Context, n *node) (running, error) {
	log, err := n.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(p.binary, "server", "-config="+n.configFile())
	cmd.Dir = n.dir
	// Nothing of the caller's environment: VAULT_* of a developer is not the test's.
	cmd.Env = []string{"HOME=" + n.dir, "PATH=" + os.Getenv("PATH"), tether + "=1"}
	cmd.Stdout, cmd.Stderr = log, log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("vaulttest: start Vault: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("vaulttest: start Vault: %w", err)
	}
	c := &child{cmd: cmd, stdin: stdin, gone: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(c.gone)
	}()
	return c, nil
}

// folder is where the node sees dir: the same place.
func (p *process) folder(dir string) string { return dir }

// places gives a node its addresses: all nodes share loopback.
func (p *process) places(_ string, ports [2]int) places {
	at := hostAt("127.0.0.1")
	return places{
		listen:  at(ports[0]),
		cluster: at(ports[1]),
		peer:    "https://" + at(ports[0]),
		raft:    "https://" + at(ports[1]),
	}
}

func (p *process) here() (listen, host string) { return "127.0.0.1", "127.0.0.1" }

func (p *process) close(context.Context) error { return nil }

type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	gone  chan struct{}
}

func (c *child) ended() <-chan struct{} { return c.gone }

// stop kills, as a crash would: what Vault has answered it has also stored.
func (c *child) stop(context.Context) error {
	c.cmd.Process.Kill()
	<-c.gone
	c.stdin.Close()
	return nil
}
