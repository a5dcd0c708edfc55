package rotation

import (
	"context"
	"encoding/json"
	"fmt"
)

// A Memory carries state over restarts, and between processes that share it. It
// holds HMACs, names and times, and the key of the HMACs: never a credential.
//
// Implementations MUST be safe for concurrent use, by several processes too, and
// honour ctx.
type Memory interface {
	// Update replaces what is kept under name by what change returns for it, as
	// one step: nobody else's Update of that name comes in between. old is nil
	// where nothing is kept. Where change returns nil what is kept is removed,
	// and where it returns what it got nothing need be written. change has no
	// effect of its own and may be called more than once.
	Update(ctx context.Context, name string, change func(old []byte) []byte) error
}

const keySize = 32

// Key returns the random key that memory's HMACs are made under; it is made, and
// kept there, at the first call.
func Key(ctx context.Context, memory Memory) ([]byte, error) {
	var key []byte
	err := memory.Update(ctx, "key", func(old []byte) []byte {
		key = nil
		if json.Unmarshal(old, &key) == nil && len(key) == keySize {
			return old
		}
		key = randomKey()
		kept, _ := json.Marshal(key)
		return kept
	})
	if err != nil {
		return nil, fmt.Errorf("rotation: read key of memory: %w", err)
	}
	return key, nil
}

// update is one change of scope's record in memory. A record that can't be read
// counts as none.
func update(ctx context.Context, memory Memory, scope Scope, alter func(*record)) (record, error) {
	var result record
	err := memory.Update(ctx, recordName(scope), func(old []byte) []byte {
		result = record{}
		if json.Unmarshal(old, &result) != nil {
			result = record{}
		}
		alter(&result)
		if result.empty() {
			return nil
		}
		kept, err := json.Marshal(result)
		if err != nil {
			return old
		}
		return kept
	})
	if err != nil {
		return record{}, fmt.Errorf("rotation: keep state: %w", err)
	}
	return result, nil
}

// recordName is a scope's name in memory: JSON, so that no client id or server
// can be taken for another's.
func recordName(scope Scope) string {
	name, _ := json.Marshal([2]string{scope.ClientID, scope.Server})
	return "scope " + string(name)
}
