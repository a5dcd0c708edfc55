package flight

import "sync"

// A Gate counts the calls that run in a resource, so that it is not closed under
// them. The zero value is open; it must not be copied.
type Gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // made by Close, closed when inside is 0
}

// Enter reports whether the gate is open, and counts the caller in if it is: it
// calls Leave when it is done.
func (g *Gate) Enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

// Leave counts a caller out.
func (g *Gate) Leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.closed {
		close(g.empty)
	}
}

// Close shuts the gate and waits until nobody is inside, for [CloseWait] at
// most. It is called once.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed, g.empty = true, make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	Land(g.empty)
}
