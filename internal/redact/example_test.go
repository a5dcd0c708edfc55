package redact_test

import (
	"encoding/base64"
	"fmt"

	"github.com/smartcred/smartcred/internal/redact"
)

func Example() {
	r := redact.New([]byte("correct horse battery"))
	echo := "refused: Basic " + base64.StdEncoding.EncodeToString([]byte("my-app:correct+horse+battery")) + "\r\n"
	fmt.Printf("%q\n", redact.Text(r.Clean(echo), 256))
	// Output: "refused: Basic bXktYXBwO[redacted]==  "
}
