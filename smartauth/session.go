package smartauth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred/provider"
)

// A StoreFunc keeps a session's new token before it is used. It gets the token
// with its refresh token; [Token.Save] has what to write.
type StoreFunc func(ctx context.Context, token *Token) error

// SessionOptions configure [Client.SessionSource].
type SessionOptions struct {
	// Store is called with every renewed token before it is used; nil: the
	// session lives in memory only.
	Store StoreFunc
}

// SessionSource returns a token source for a user's session: it begins with
// token, as [Client.Exchange] or [RestoreToken] returned it, and renews by its
// refresh token. Refresh tokens are used once each, by one flight; a new one is
// stored before its token is given out. After [provider.ErrInvalidGrant] or
// [ErrGrantUncertain] the refresh token is not sent again: the user has to log
// in. A token without a refresh token is served until it expires.
//
// Keep one source for a session, as long as that lives: two of them would each
// use the refresh token, and a server that sees one twice ends the session.
//
// The source keeps no goroutine and needs no Close of its own; the client's
// Close ends its renewals.
func (c *Client) SessionSource(token *Token, opts *SessionOptions) *TokenSource {
	session := &session{client: c, last: token}
	if opts != nil {
		session.store = opts.Store
	}
	s := new(TokenSource)
	s.init(c, session.next)
	s.ended = &session.ended
	if token == nil {
		token = new(Token)
	}
	session.ended.Store(token.RefreshToken() == "")
	if now := time.Now(); now.Before(token.Expiry) {
		s.serve(token, renewAt(token, now))
	}
	return s
}

// A session is the chain of refresh tokens of one user's log-in. Its one caller
// at a time is the source's flight.
type session struct {
	client   *Client
	store    StoreFunc
	last     *Token
	unstored *Token // got, but Store failed
	over     error  // why the refresh token can't be used any more
	ended    atomic.Bool
}

func (s *session) next(ctx context.Context) (*Token, error) {
	token := s.unstored
	if token == nil {
		if s.over != nil {
			return nil, s.over
		}
		var err error
		token, err = s.client.Refresh(ctx, s.last, nil)
		switch {
		case errors.Is(err, ErrGrantUncertain), errors.Is(err, provider.ErrInvalidGrant):
			s.over = err
			s.ended.Store(true)
			return nil, err
		case err != nil:
			return nil, err
		}
		s.unstored = token
	}
	if s.store != nil {
		if err := s.store(ctx, token); err != nil {
			return nil, fmt.Errorf("smartauth: store refreshed token: %w", err)
		}
	}
	s.last, s.unstored = token, nil
	s.ended.Store(token.RefreshToken() == "")
	return token, nil
}
