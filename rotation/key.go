package rotation

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"

	"github.com/smartcred/smartcred/internal/flight"
)

// An hmacKey is what identities are hashed under.
type hmacKey struct {
	value func() []byte // in a closure, so that printing does not reach it
	id    string        // names it in records: those of another key can't be matched
}

func newKey(value []byte) *hmacKey {
	k := &hmacKey{value: func() []byte { return value }}
	i := k.identify([]byte("smartcred key id"))
	k.id = hex.EncodeToString(i[:4])
	return k
}

func (k *hmacKey) identify(identity []byte) id {
	mac := hmac.New(sha256.New, k.value())
	mac.Write(identity)
	return id(mac.Sum(nil)[:len(id{})])
}

func randomKey() []byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	return key
}

// A keyring has the memory's key, or one of this process while memory fails.
type keyring struct {
	mu     sync.Mutex
	key    *hmacKey
	due    time.Time // when memory is to be asked again: its file may have been replaced
	flight flight.Flight[*hmacKey]
}

// current returns the key to use now. It waits for memory as long as ctx lasts.
func (k *keyring) current(ctx context.Context, memory Memory, failed func(error)) *hmacKey {
	k.mu.Lock()
	if k.key != nil && (memory == nil || time.Now().Before(k.due)) {
		defer k.mu.Unlock()
		return k.key
	}
	if memory == nil {
		defer k.mu.Unlock()
		k.key = newKey(randomKey())
		return k.key
	}
	k.mu.Unlock()

	value, err := k.flight.Do(ctx, memoryTimeout, func(ctx context.Context) (*hmacKey, error) {
		value, err := Key(ctx, memory)
		k.mu.Lock()
		defer k.mu.Unlock()
		if err != nil {
			if k.due = time.Now().Add(memoryPause); k.key == nil {
				k.key = newKey(randomKey())
			}
			failed(err)
			return k.key, nil
		}
		k.due = time.Now().Add(reloadEvery)
		if next := newKey(value); k.key == nil || next.id != k.key.id {
			k.key = next
		}
		return k.key, nil
	})
	if err != nil { // ctx's own: the caller looks at it next
		return newKey(randomKey())
	}
	return value
}
