// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package ubus

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Registration is something a client keeps registered.
type Registration struct {
	c *Client
	r registrant
}

// Remove ends it.
func (r *Registration) Remove() error { return r.c.remove(r.r) }

// add keeps r registered. It waits for the daemon if there is a connection, and
// leaves it to the next one if there is none or it breaks.
func (c *Client) add(r registrant) error {
	c.mu.Lock()
	c.registrants = append(c.registrants, r)
	cn := c.cn
	c.mu.Unlock()
	if cn == nil {
		return nil
	}
	err := r.register(cn)
	if err == nil || cn.ctx.Err() != nil {
		return nil
	}
	if rerr := c.remove(r); rerr != nil {
		err = errors.Join(err, rerr)
	}
	return err
}

func (c *Client) remove(r registrant) error {
	c.mu.Lock()
	c.registrants = slices.DeleteFunc(c.registrants, func(x registrant) bool { return x == r })
	cn := c.cn
	c.mu.Unlock()
	if cn == nil {
		return nil
	}
	return cn.removeObject(r)
}

func (cn *conn) removeObject(r registrant) error {
	cn.mu.Lock()
	id, ok := cn.ids[r]
	delete(cn.ids, r)
	delete(cn.objects, id)
	cn.mu.Unlock()
	if !ok {
		return nil
	}
	err := cn.register(kindRemoveObject, appendAttr32(nil, attrObjID, id), nil)
	if err != nil && cn.ctx.Err() == nil {
		return fmt.Errorf("removing an object: %w", err)
	}
	return nil
}

// settled runs requests about what is registered. A daemon that does not answer
// them leaves us not knowing what is, so that ends the connection.
func (cn *conn) settled(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(cn.ctx, DefaultTimeout)
	defer cancel()
	err := do(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		cn.cancel(err)
	}
	return err
}

func (cn *conn) register(k kind, body []byte, reply func(kind, attributes)) error {
	return cn.settled(func(ctx context.Context) error { return cn.do(ctx, k, 0, body, reply) })
}

// addObject publishes an object for r, whose messages rc gets. The id is noted
// while reading: the first invocation may follow the answer at once.
func (cn *conn) addObject(r registrant, rc receiver, body []byte) (id uint32, err error) {
	err = cn.register(kindAddObject, body, func(k kind, at attributes) {
		if k == kindData && at.has(attrObjID) {
			id = at.u32(attrObjID)
			cn.objects[id] = rc
			cn.ids[r] = id
		}
	})
	if err == nil && id == 0 {
		err = ErrNoData
	}
	return id, err
}

// listen has events that match pattern sent to the object id.
func (cn *conn) listen(id uint32, pattern string) error {
	args, err := Marshal(struct {
		Object  int32  `json:"object"`
		Pattern string `json:"pattern"`
	}{int32(id), pattern})
	if err != nil {
		return err
	}
	return cn.settled(func(ctx context.Context) error {
		_, err := cn.invoke(ctx, eventObject, "register", args)
		return err
	})
}

func (cn *conn) idOf(r registrant) (uint32, bool) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	id, ok := cn.ids[r]
	return id, ok
}
