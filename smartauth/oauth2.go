package smartauth

import (
	"context"

	"golang.org/x/oauth2"
)

// OAuth2 returns s as an [oauth2.TokenSource], for libraries that ask for one.
// Its Token calls use ctx. It needs no [oauth2.ReuseTokenSource] around it.
func (s *TokenSource) OAuth2(ctx context.Context) oauth2.TokenSource {
	return oauth2Source{ctx: ctx, source: s}
}

type oauth2Source struct {
	ctx    context.Context
	source *TokenSource
}

func (s oauth2Source) Token() (*oauth2.Token, error) {
	token, err := s.source.Token(s.ctx)
	if err != nil {
		return nil, err
	}
	return token.OAuth2(), nil
}
