// Package strictjson reads the one JSON object that a server answered with, the
// way a security protocol needs it: member names keep their case, duplicates are
// reported instead of merged, and nothing that two parsers could read
// differently passes unseen.
//
//	o, err := strictjson.Object(body)
//	if err != nil {
//		return err // ErrSyntax, ErrEncoding, ErrDepth or ErrNotObject
//	}
//	code, state := o.String("error") // state: Absent, Null, WrongType or Present
//
// Its errors are fixed texts: they never hold a byte of the input. Syntax and
// encoding are RFC 8259's.
package strictjson
