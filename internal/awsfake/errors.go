package awsfake

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
)

const contentType = "application/x-amz-json-1.1"

var discard = log.New(io.Discard, "", 0)

// An Error is an answer that is an error: its HTTP status, its __type, and the
// message.
type Error struct {
	Status  int
	Code    string
	Message string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(code, message string) error { return &Error{http.StatusBadRequest, code, message} }

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{http.StatusInternalServerError, "InternalFailure", err.Error()}
}

// writeError writes "message" for errors that AWS's front raises and for KMS, and
// "Message" for those of Secrets Manager: both occur, and clients must take both.
func writeError(w http.ResponseWriter, e *Error) {
	members := map[string]string{"__type": e.Code}
	name := "message"
	if capitalMessage[e.Code] {
		name = "Message"
	}
	if e.Message != "" {
		members[name] = e.Message
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(members)
}

var capitalMessage = map[string]bool{
	"AccessDeniedException": true, "ResourceNotFoundException": true, "InvalidRequestException": true,
	"InvalidParameterException": true, "DecryptionFailure": true, "ResourceExistsException": true,
}
