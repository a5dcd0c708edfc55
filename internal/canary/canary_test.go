package canary

import "testing"

// TestCanary drives everything public with values that must not show.
func TestCanary(t *testing.T) {
	t.Run("echo", testEcho)
	t.Run("FHIR", testFHIR)
}
