package flight

import "sync"

// A Gate counts the calls that run in a resource, so that it is not closed under
// them. The zero value is open; it must not be copied.
type Gate struct {
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // made by Shut, closed when inside is 0
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

// Shut lets nobody in any more. What it returns is closed when the last one has
// left. It is called once; wait with [Land].
func (g *Gate) Shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.empty = true, make(chan struct{})
	if g.inside == 0 {
		close(g.empty)
	}
	return g.empty
}
