// Command prepare makes ready the Vault that the integration tests run against,
// which may take minutes the first time, and prints which way they will take.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/smartcred/smartcred/integration/vaulttest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	how, err := vaulttest.Prepare(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("vault:", how)
}
