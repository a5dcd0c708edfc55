//go:build cgo

package pkcs11

import (
	"encoding/binary"

	cryptoki "github.com/miekg/pkcs11"
)

// findObjects returns the handles of the objects that a template matches, a few
// more than maxMatching at most.
func (c *connection) findObjects(session cryptoki.SessionHandle, template []*cryptoki.Attribute) ([]cryptoki.ObjectHandle, error) {
	lib := c.module.lib
	if err := lib.FindObjectsInit(session, template); err != nil {
		return nil, failed("look for objects", err)
	}
	var handles []cryptoki.ObjectHandle
	for len(handles) <= maxMatching {
		more, _, err := lib.FindObjects(session, maxMatching)
		if err != nil {
			return nil, failed("look for objects", err)
		}
		if len(more) == 0 {
			break
		}
		handles = append(handles, more...)
	}
	if err := lib.FindObjectsFinal(session); err != nil {
		return nil, failed("look for objects", err)
	}
	return handles, nil
}

// objectAttributes are those that an object has, by type.
type objectAttributes map[uint][]byte

// read returns those of the attributes that the object has and shows.
func (c *connection) read(session cryptoki.SessionHandle, h cryptoki.ObjectHandle, types ...uint) (objectAttributes, error) {
	template := make([]*cryptoki.Attribute, len(types))
	for i, t := range types {
		template[i] = &cryptoki.Attribute{Type: t}
	}
	values, err := c.module.lib.GetAttributeValue(session, h, template)
	switch {
	case err == nil:
		a := objectAttributes{}
		for _, v := range values {
			a[v.Type] = v.Value
		}
		return a, nil
	case !isOne(err, []cryptoki.Error{cryptoki.CKR_ATTRIBUTE_TYPE_INVALID, cryptoki.CKR_ATTRIBUTE_SENSITIVE}):
		return nil, failed("read an object's attributes", err)
	case len(types) == 1:
		return objectAttributes{}, nil
	}
	a := objectAttributes{} // one that is not there spoils the answer for all
	for _, t := range types {
		one, err := c.read(session, h, t)
		if err != nil {
			return nil, err
		}
		if value, ok := one[t]; ok {
			a[t] = value
		}
	}
	return a, nil
}

// flag returns a CK_BBOOL, and whether the object has it.
func (a objectAttributes) flag(t uint) (value, said bool) {
	v := a[t]
	return len(v) == 1 && v[0] != 0, len(v) == 1
}

// number returns a CK_ULONG, which is 4 bytes on some systems and 8 on others.
func (a objectAttributes) number(t uint) (uint64, bool) {
	switch v := a[t]; len(v) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(v)), true
	case 8:
		return binary.NativeEndian.Uint64(v), true
	default:
		return 0, false
	}
}
