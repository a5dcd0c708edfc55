//go:build cgo

package pkcs11

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	cryptoki "github.com/miekg/pkcs11"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
)

// runCommand is what this binary does in place of tests: what needs a process of
// its own, because a process has one login per token and one configuration.
func runCommand(name string) int {
	command, ok := map[string]func() error{"start": start, "date": setDates}[name]
	if !ok {
		fmt.Fprintln(os.Stderr, "unknown command", name)
		return 2
	}
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// start is a start of a program that signs once.
func start() error {
	ctx := context.Background()
	s, err := signer.Open(ctx, os.Getenv("HSM_URI"), nil)
	if err != nil {
		return err
	}
	keys, err := signer.NewKeySet(s, &signer.KeySetOptions{Observer: smartcred.Discard})
	if err != nil {
		return err
	}
	defer keys.Close()
	key, err := keys.Signing(ctx, nil)
	if err != nil {
		return err
	}
	_, err = keys.Sign(ctx, key, []byte("start"))
	return err
}

// setDates sets CKA_START_DATE and CKA_END_DATE of a public key object: HSM_DATES
// is its id, and two dates of eight digits or nothing.
func setDates() error {
	args := strings.Split(os.Getenv("HSM_DATES"), ",")
	id, err := hex.DecodeString(args[0])
	if err != nil {
		return err
	}
	lib := cryptoki.New(softHSM)
	if err := lib.Initialize(); err != nil {
		return err
	}
	defer lib.Finalize()
	slots, err := lib.GetSlotList(true)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if info, err := lib.GetTokenInfo(slot); err != nil || info.Label != tokenLabel {
			continue
		}
		session, err := lib.OpenSession(slot, cryptoki.CKF_SERIAL_SESSION|cryptoki.CKF_RW_SESSION)
		if err != nil {
			return err
		}
		if err := lib.Login(session, cryptoki.CKU_USER, rightPIN); err != nil {
			return err
		}
		// SoftHSM takes dates of private objects and can't read them again.
		template := []*cryptoki.Attribute{cryptoki.NewAttribute(cryptoki.CKA_CLASS, cryptoki.CKO_PUBLIC_KEY), cryptoki.NewAttribute(cryptoki.CKA_ID, id)}
		if err := lib.FindObjectsInit(session, template); err != nil {
			return err
		}
		found, _, err := lib.FindObjects(session, 2)
		if err != nil {
			return err
		}
		if err := lib.FindObjectsFinal(session); err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%d keys", len(found))
		}
		var dates []*cryptoki.Attribute
		for i, t := range []uint{cryptoki.CKA_START_DATE, cryptoki.CKA_END_DATE} {
			if date := args[1+i]; date != "" {
				dates = append(dates, cryptoki.NewAttribute(t, date))
			}
		}
		return lib.SetAttributeValue(session, found[0], dates)
	}
	return fmt.Errorf("no token")
}
