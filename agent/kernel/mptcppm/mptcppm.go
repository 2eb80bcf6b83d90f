// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

// Package mptcppm makes the endpoints and limits of the in-kernel MPTCP path
// manager what they are to be.
package mptcppm

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"braid/agent/kernel/sysctl"
	"braid/agent/plan"
	"braid/transport/mptcp"
)

// ConflictError says that an endpoint could not be added because another one,
// which is not braid's, has its address.
type ConflictError struct {
	Want   mptcp.Endpoint
	Holder mptcp.Endpoint
	Err    error // of the kernel
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("MPTCP endpoint %d, which is not braid's, has the address: %v", e.Holder.ID, e.Err)
}

// Unwrap returns the kernel's error.
func (e *ConflictError) Unwrap() error { return e.Err }

// changeable are the flags that an endpoint can change while it is in use;
// open connections keep their subflows then and only tell their peers.
const changeable = mptcp.FlagBackup | mptcp.FlagFullmesh

// Apply makes the endpoints with ids of plan.EndpointFirst to EndpointLast
// what they are to be, and the limits; nil limits are put back to what they
// were, which k remembers. Apply(k, nil, nil) is teardown. Other endpoints stay
// as they are, but for those that the kernel has made itself (FlagImplicit) of
// an address that is wanted.
//
// Errors are joined, and one that fails does not stop the rest. They are a
// *ConflictError for an address that somebody else's endpoint has, and wrap
// os.ErrNotExist if something is wanted of a kernel without MPTCP.
func Apply(k *sysctl.Keeper, eps []mptcp.Endpoint, limits *mptcp.Limits) error {
	if limits == nil {
		// Not before the endpoints are gone that needed the larger ones.
		return errors.Join(applyEndpoints(eps), applyLimits(k, nil))
	}
	return errors.Join(applyLimits(k, limits), applyEndpoints(eps))
}

// Keep is the part of Apply that sees to endpoints.
func Keep(eps []mptcp.Endpoint) error { return applyEndpoints(eps) }

func ours(id uint8) bool { return id >= plan.EndpointFirst && id <= plan.EndpointLast }

// Withdraw deletes our endpoints whose address is not among those wanted. It
// is the part of Apply that open connections wait for.
func Withdraw(want []mptcp.Endpoint) error {
	have, err := mptcp.Endpoints()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range have {
		if ours(e.ID) && !slices.ContainsFunc(want, func(w mptcp.Endpoint) bool { return w.Addr == e.Addr }) {
			errs = append(errs, mptcp.DeleteEndpoint(e))
		}
	}
	return errors.Join(errs...)
}

// Relieve adds endpoints that Apply would add too, before those go that they
// stand in for: what is open then has subflows to go on with.
func Relieve(eps []mptcp.Endpoint) error {
	var errs []error
	for _, e := range eps {
		errs = append(errs, mptcp.AddEndpoint(e))
	}
	return errors.Join(errs...)
}

// Remake deletes and adds an endpoint: connections that have no subflow from it
// get one, those that have one get another.
func Remake(e mptcp.Endpoint) error {
	return errors.Join(mptcp.DeleteEndpoint(e), mptcp.AddEndpoint(e))
}

func applyEndpoints(want []mptcp.Endpoint) error {
	have, err := mptcp.Endpoints()
	if errors.Is(err, os.ErrNotExist) && len(want) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	mine, others := map[uint8]mptcp.Endpoint{}, []mptcp.Endpoint{}
	for _, e := range have {
		if ours(e.ID) {
			mine[e.ID] = e
		} else {
			others = append(others, e)
		}
	}

	var errs []error
	var later []mptcp.Endpoint
	for _, w := range want {
		if !ours(w.ID) {
			errs = append(errs, fmt.Errorf("MPTCP endpoint id %d is not within %d to %d", w.ID, plan.EndpointFirst, plan.EndpointLast))
			continue
		}
		h := mine[w.ID]
		changed := h
		changed.Flags = h.Flags&^changeable | w.Flags&changeable
		switch {
		case h == w:
			delete(mine, w.ID)
		case changed == w:
			delete(mine, w.ID)
			errs = append(errs, mptcp.SetEndpointFlags(w))
		case mptcp.AddEndpoint(w) != nil:
			// Its id or address may be that of one that goes, or all places taken.
			later = append(later, w)
		}
	}
	for _, e := range mine {
		errs = append(errs, mptcp.DeleteEndpoint(e))
	}
	for _, w := range later {
		errs = append(errs, add(w, others))
	}
	return errors.Join(errs...)
}

// add adds an endpoint whose address another one may have. If the kernel made
// that one itself, it refuses an explicit one with an id of its own beside it.
func add(w mptcp.Endpoint, others []mptcp.Endpoint) error {
	i := slices.IndexFunc(others, func(e mptcp.Endpoint) bool { return e.Addr == w.Addr })
	if i < 0 {
		return mptcp.AddEndpoint(w)
	}
	if o := others[i]; o.Flags&mptcp.FlagImplicit != 0 {
		return errors.Join(mptcp.DeleteEndpoint(o), mptcp.AddEndpoint(w))
	}
	if err := mptcp.AddEndpoint(w); err != nil {
		return &ConflictError{Want: w, Holder: others[i], Err: err}
	}
	return nil
}
