package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// rereadConfiguration is how often a running process looks what is revoked.
const rereadConfiguration = time.Minute

// followRevoked holds the keys to what the configuration file has under revoked,
// until ctx ends. A file with anything wrong in it changes nothing: a misspelt
// key must not bring back what was revoked.
func (c *configuration) followRevoked(ctx context.Context, o *session, log *slog.Logger) {
	if c.file == "" {
		return
	}
	ticker := time.NewTicker(rereadConfiguration)
	defer ticker.Stop()
	revoked, told := o.revoked, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s, wrong, err := c.load(ctx)
		if err == nil {
			err = errors.Join(wrong.problems...)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if told = ""; !slices.Equal(s.revoked, revoked) {
				revoked = s.revoked
				o.keys.SetRevoked(ctx, revoked)
				log.Info("smartcred: revoked changed in the configuration", "revoked", revoked)
			}
		case plainText(err) != told:
			told = plainText(err)
			log.Warn("smartcred: the configuration can't be read again: what it had under revoked holds on", "error", told)
		}
	}
}
