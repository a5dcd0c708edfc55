package vault

import (
	"testing"

	"github.com/smartcred/smartcred/integration/vaulttest"
)

func TestMain(m *testing.M) { vaulttest.Main(m) }
