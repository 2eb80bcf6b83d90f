// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"fmt"
)

// ObjectInfo is what the daemon tells about an object.
type ObjectInfo struct {
	Path    string
	ID      uint32
	TypeID  uint32
	Methods []Method // without Handle
}

// within gives ctx the default deadline if it has none.
func within(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// Lookup returns the objects at path, which may end in * for all that begin so;
// the empty path means all. ErrNotFound if there are none.
func (c *Client) Lookup(ctx context.Context, path string) ([]ObjectInfo, error) {
	ctx, cancel := within(ctx)
	defer cancel()
	cn, err := c.conn()
	if err != nil {
		return nil, fmt.Errorf("looking up %q: %w", path, err)
	}
	return cn.lookup(ctx, path)
}

func (cn *conn) lookup(ctx context.Context, path string) ([]ObjectInfo, error) {
	var body []byte
	if path != "" {
		body = appendAttrString(nil, attrObjPath, path)
	}
	var found []ObjectInfo
	err := cn.do(ctx, kindLookup, 0, body, func(k kind, at attributes) {
		if k == kindData && at.has(attrObjID, attrObjPath) {
			found = append(found, ObjectInfo{
				Path:    at.str(attrObjPath),
				ID:      at.u32(attrObjID),
				TypeID:  at.u32(attrObjType),
				Methods: signature(at[attrSignature]),
			})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("looking up %q: %w", path, err)
	}
	return found, nil
}

// lookupID is ErrNotFound also for an object published without a signature,
// which ubusd finds but does not tell about.
func (cn *conn) lookupID(ctx context.Context, path string) (uint32, error) {
	found, err := cn.lookup(ctx, path)
	if err != nil {
		return 0, err
	}
	for _, o := range found {
		if o.Path == path {
			return o.ID, nil
		}
	}
	return 0, fmt.Errorf("looking up %q: %w", path, ErrNotFound)
}

// Call invokes a method of the object at path with args, anything Marshal
// takes, and decodes the answer into reply, anything Unmarshal takes, or nil. An
// answer in several messages is decoded in the order of their arrival. The
// error is a Status if the daemon or the object refused, ErrTimeout if they did
// not answer in time, ErrConnectionFailed if there is no connection or it broke.
func (c *Client) Call(ctx context.Context, path, method string, args, reply any) error {
	ctx, cancel := within(ctx)
	defer cancel()
	answers, err := c.call(ctx, path, method, args)
	if err != nil {
		return fmt.Errorf("calling %s %s: %w", path, method, err)
	}
	if reply == nil {
		return nil
	}
	for _, a := range answers {
		if err := Unmarshal(a, reply); err != nil {
			return fmt.Errorf("answer of %s %s: %w", path, method, err)
		}
	}
	return nil
}

func (c *Client) call(ctx context.Context, path, method string, args any) ([]Data, error) {
	data, err := Marshal(args)
	if err != nil {
		return nil, err
	}
	cn, err := c.conn()
	if err != nil {
		return nil, err
	}
	id, err := cn.lookupID(ctx, path)
	if err != nil {
		return nil, err
	}
	return cn.invoke(ctx, id, method, data)
}

func (cn *conn) invoke(ctx context.Context, id uint32, method string, data Data) ([]Data, error) {
	var answers []Data
	err := cn.do(ctx, kindInvoke, id, invocation(id, method, data, false), func(k kind, at attributes) {
		if k == kindData && at.has(attrData) {
			answers = append(answers, at[attrData])
		}
	})
	return answers, err
}

// invocation is the body of an invoke or notify message.
func invocation(id uint32, method string, data []byte, noReply bool) []byte {
	b := appendAttr32(nil, attrObjID, id)
	b = appendAttrString(b, attrMethod, method)
	b = appendAttr(b, attrData, data)
	if noReply {
		b = appendAttr(b, attrNoReply, []byte{1})
	}
	return b
}

// Send broadcasts an event to all that listen to its name, but not to this
// client. Names that begin with "ubus." are the daemon's: ErrPermissionDenied.
func (c *Client) Send(ctx context.Context, name string, v any) error {
	ctx, cancel := within(ctx)
	defer cancel()
	if err := c.sendEvent(ctx, name, v); err != nil {
		return fmt.Errorf("sending event %s: %w", name, err)
	}
	return nil
}

func (c *Client) sendEvent(ctx context.Context, name string, v any) error {
	data, err := Marshal(v)
	if err != nil {
		return err
	}
	event, err := appendString(nil, "id", name)
	if err != nil {
		return err
	}
	if event, err = appendField(event, Table, "data", data); err != nil {
		return err
	}
	cn, err := c.conn()
	if err != nil {
		return err
	}
	_, err = cn.invoke(ctx, eventObject, "send", event)
	return err
}
