package vaulttest

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// A Proxy stands between clients and a server and does to connections what
// networks do. It forwards bytes, so that the certificate seen is the server's.
// Its methods may be called at any time and take effect on open connections
// too.
type Proxy struct {
	Address string // https://127.0.0.1:port, the same for life

	target string // host:port
	listen string

	mu       sync.Mutex
	mode     mode
	changed  chan struct{} // closed and renewed when mode changes
	left     int           // bytes that pass a connection towards the client before it is cut
	listener net.Listener
	conns    map[*net.TCPConn]bool
	wg       sync.WaitGroup
}

type mode int

const (
	passing mode = iota
	stalled
	cutting
	refusing
	ended
)

// NewProxy starts a proxy in front of the server, which ends with the test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	u, err := url.Parse(s.Address)
	if err != nil {
		t.Fatalf("vaulttest: %v", err)
	}
	ports, err := freePorts()
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		target:  u.Host,
		listen:  hostAt("127.0.0.1")(ports[0]),
		changed: make(chan struct{}),
		conns:   map[*net.TCPConn]bool{},
		mode:    refusing,
	}
	p.Address = "https://" + p.listen
	t.Cleanup(func() {
		p.set(ended, 0)
		p.wg.Wait()
	})
	p.Pass(t)
	return p
}

// Pass forwards everything, as at the beginning.
func (p *Proxy) Pass(t testing.TB) {
	t.Helper()
	if err := p.set(passing, 0); err != nil {
		t.Fatalf("vaulttest: listen again: %v", err)
	}
}

// Stall takes connections and what they send, and passes nothing on in either
// direction: to a client the server is a black hole.
func (p *Proxy) Stall() { p.set(stalled, 0) }

// Cut resets every open connection, and each later one as soon as after bytes
// have passed to the client: 0 resets it before the TLS handshake, about 1,500
// is after the handshake and before the answer is whole.
func (p *Proxy) Cut(after int) { p.set(cutting, after) }

// Refuse resets every open connection and refuses new ones, as a host does on
// which nothing listens.
func (p *Proxy) Refuse() { p.set(refusing, 0) }

func (p *Proxy) set(m mode, left int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == ended {
		return nil
	}
	p.mode, p.left = m, left
	close(p.changed)
	p.changed = make(chan struct{})
	if m == cutting || m == refusing || m == ended {
		for c := range p.conns {
			c.SetLinger(0) // RST, not an orderly end
			c.Close()
		}
	}
	if m == refusing || m == ended {
		if p.listener != nil {
			p.listener.Close()
			p.listener = nil
		}
		return nil
	}
	if p.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", p.listen)
	if err != nil {
		return err
	}
	p.listener = l
	p.wg.Go(func() { p.accept(l) })
	return nil
}

func (p *Proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	if !p.keep(client) {
		return
	}
	defer p.drop(client)
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		client.SetLinger(0)
		return
	}
	server := conn.(*net.TCPConn)
	if !p.keep(server) {
		return
	}
	defer p.drop(server)
	p.wg.Go(func() {
		p.copy(server, client, false)
		server.CloseWrite()
	})
	p.copy(client, server, true)
}

// copy forwards until one side ends or the mode says so.
func (p *Proxy) copy(to, from *net.TCPConn, answers bool) {
	buf := make([]byte, 16<<10)
	passed := 0
	for {
		n, err := from.Read(buf)
		most, ok := p.admit(passed)
		if !ok {
			return
		}
		cut := answers && n > most
		if cut {
			n = most
		}
		if _, werr := to.Write(buf[:n]); werr != nil {
			return
		}
		passed += n
		if cut {
			to.SetLinger(0)
			return
		}
		if err != nil {
			return // io.EOF, or reset by set
		}
	}
}

// admit waits while the proxy is stalled, and says how many more bytes may pass.
func (p *Proxy) admit(passed int) (most int, ok bool) {
	for {
		p.mu.Lock()
		m, left, changed := p.mode, p.left, p.changed
		p.mu.Unlock()
		switch m {
		case passing:
			return 1 << 30, true
		case cutting:
			return max(0, left-passed), true
		case stalled:
			<-changed
		default:
			return 0, false
		}
	}
}

// keep remembers an open connection, so that set can reset it.
func (p *Proxy) keep(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == refusing || p.mode == ended {
		c.SetLinger(0)
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) drop(c *net.TCPConn) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.Close()
}
