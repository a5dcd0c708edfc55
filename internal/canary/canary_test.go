package canary

import (
	"maps"
	"sync"
	"testing"
)

// printed are the types that the subtests' watches looked at.
var printed = struct {
	sync.Mutex
	types map[string]bool
}{types: map[string]bool{}}

func (w *watch) noteTypes() {
	printed.Lock()
	defer printed.Unlock()
	maps.Copy(printed.types, w.types)
}

// TestCanary drives everything public with values that must not show.
func TestCanary(t *testing.T) {
	t.Run("secretsource", testSecretSource)
	t.Run("signer", testSigner)
	t.Run("rotation", testRotation)
	t.Run("flows", testFlows)
	t.Run("callback", testCallback)
	t.Run("discovery", testDiscovery)
	t.Run("TLS", testTLS)
	t.Run("hook", testHook)
	t.Run("crash", testCrash)
	t.Run("echo", testEcho)
	t.Run("FHIR", testFHIR)
	t.Run("command", testCommand)
	t.Run("Vault", testVault)
	t.Run("AWS", testAWS)
	t.Run("rotator", testRotator)
	t.Run("program", testProgram)
	t.Run("PKCS#11", testPKCS11)
	t.Run("types", func(t *testing.T) { testTypes(t, printed.types) })
}
