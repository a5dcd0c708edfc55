package wire

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Version is the protocol version that both ends here speak.
const Version = 1

// What a line and its parts may hold at most.
const (
	MaxLine      = 1 << 20  // bytes of a line, its newline included
	MaxSecret    = 64 << 10 // bytes of a secret
	MaxName      = 256      // bytes of a version or kid
	MaxEvidence  = 1024     // bytes of a custody's evidence
	MaxKeys      = 64       // keys of a list
	MaxPublicKey = 8 << 10  // bytes of a public key in PEM
	MaxSignature = 2 << 10  // bytes of a signature
)

// The methods.
const (
	Hello  = "hello"
	Lookup = "lookup"
	Keys   = "keys"
	Sign   = "sign"
)

// How a program lives.
const (
	OneShot   = "one-shot"
	LongLived = "long-lived"
)

// What a program can be.
const (
	RoleSigner = "signer"
	RoleSource = "source"
)

// A Request is what the parent asks.
type Request struct {
	ID        uint64 `json:"id"`
	Method    string `json:"method"`
	Protocols []int  `json:"protocols,omitempty"` // of a hello
	Protocol  int    `json:"protocol,omitempty"`  // of all others
	TimeoutMS int64  `json:"timeout_ms"`

	Target
	Stage     string `json:"stage,omitempty"`     // of a lookup
	Key       string `json:"key,omitempty"`       // of a sign: the key's version
	Algorithm string `json:"algorithm,omitempty"` // of a sign
	Input     []byte `json:"input,omitempty"`     // of a sign
	JTI       string `json:"jti,omitempty"`       // of a sign, where it is an assertion's

	Unknown string `json:"unknown,omitempty"` // no version has it: to see that it is passed over
}

// A Target is what the URI, and the configuration beside it, say.
type Target struct {
	Path                string            `json:"path,omitempty"`
	Options             map[string]string `json:"options,omitempty"`
	ConfiguredAlgorithm string            `json:"configured_algorithm,omitempty"` // of a signer
	PublishSeconds      int64             `json:"publish_s,omitempty"`            // of a signer: how long new versions are published first
}

// Line returns r as a line of the protocol.
func (r *Request) Line() ([]byte, error) { return line(r) }

// ParseRequest reads a request. Unknown members are passed over.
func ParseRequest(text []byte) (*Request, error) {
	r := &Request{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, errors.New("the request is no JSON object of the protocol") // err may quote it
	}
	return r, nil
}

// line leaves <, > and & as they are: programs without a JSON library see what
// was meant.
func line(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
