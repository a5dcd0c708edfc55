package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred/internal/strictjson"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
)

func (a *app) discover() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "discover",
		Short: "Print a server's SMART configuration and what is wrong with it",
		Long: `Discover asks a server for its SMART configuration and prints it, with what
SMART App Launch 2.2 would have otherwise. Violations do not make it fail.`,
		Example: `  smartcred discover --base-url https://fhir.example.com/r4
  smartcred discover --base-url https://fhir.example.com/r4 --json | jq .violations`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object: base_url, configuration, violations")
	a.withConfiguration(cmd, needServer, func(ctx context.Context, o *session) error {
		o.clientID = cmp.Or(o.clientID, "none") // discovery names no client
		client, err := o.client(provider.Public{})
		if err != nil {
			return err
		}
		defer client.Close()
		doc, err := client.Discover(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(discovered{BaseURL: o.baseURL, Configuration: doc, Violations: append([]smartauth.Violation{}, doc.Violations()...)})
		}
		return a.print(describe(o.baseURL, doc))
	})
	return cmd
}

type discovered struct {
	BaseURL       string                   `json:"base_url"`
	Configuration *smartauth.Configuration `json:"configuration"`
	Violations    []smartauth.Violation    `json:"violations"`
}

// describe writes the document for people, every member in the server's order.
func describe(baseURL string, doc *smartauth.Configuration) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "SMART configuration of %s\n\n", printable(baseURL))
	if members, err := strictjson.Object(doc.Raw()); err == nil {
		width := 0
		for _, name := range members.Names {
			width = min(max(width, len(name)), 50)
		}
		for _, name := range members.Names {
			raw, _ := members.Raw(name)
			fmt.Fprintf(&b, "%-*s  %s\n", width, printable(name), printable(plain(raw)))
		}
	}
	violations := doc.Violations()
	if len(violations) == 0 {
		fmt.Fprintf(&b, "\nNo violations of SMART App Launch 2.2.\n")
		return b.Bytes()
	}
	fmt.Fprintf(&b, "\nViolations of SMART App Launch 2.2:\n")
	for _, v := range violations {
		fmt.Fprintf(&b, "- %s\n", printable(v.String()))
	}
	return b.Bytes()
}

// plain is a JSON value for people: strings bare, lists of them with commas.
func plain(raw json.RawMessage) string {
	var text string
	var list []string
	switch {
	case json.Unmarshal(raw, &text) == nil && strictjson.Kind(raw) == "string":
		return text
	case json.Unmarshal(raw, &list) == nil && strictjson.Kind(raw) == "array":
		return strings.Join(list, ", ")
	default:
		var compact bytes.Buffer
		if json.Compact(&compact, raw) != nil {
			return string(raw)
		}
		return compact.String()
	}
}
