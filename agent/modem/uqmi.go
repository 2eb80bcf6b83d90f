// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package modem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

const (
	// pollInterval is how often a modem is asked by uqmi: it holds up netifd's
	// own questions.
	pollInterval = 30 * time.Second
	// askTimeout bounds a question; uqmi hangs with its modem.
	askTimeout = 5 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 16 << 10
)

// poll asks the modems of WANs that netifd runs by QMI, one after the other,
// while no ModemManager does.
func (w *Watcher) poll(ctx context.Context) {
	asked := make(map[string]time.Time) // by control device
	stuck := make(map[string]<-chan struct{})
	for {
		next := time.Now().Add(w.interval)
		for _, t := range w.polled() {
			device := control(w.sysfs, t.Device)
			due := asked[device].Add(w.interval)
			switch {
			case device == "":
				w.note(t.WAN, Facts{Source: SourceUQMI})
				continue
			case time.Now().Before(due):
				if due.Before(next) {
					next = due
				}
				continue
			}
			asked[device] = time.Now()
			f, doneC := Facts{Source: SourceUQMI}, stuck[device]
			if doneC == nil || closed(doneC) {
				f, stuck[device] = w.ask(ctx, device)
			}
			w.note(t.WAN, f)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.pollC:
		case <-time.After(time.Until(next)):
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// polled are the targets that are asked by uqmi.
func (w *Watcher) polled() (targets []Target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.targets {
		if t.QMI && !w.managed {
			targets = append(targets, t)
		}
	}
	return targets
}

// note takes what uqmi says of a WAN that is still its own.
func (w *Watcher) note(wan string, f Facts) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, wanted := w.facts[wan]; wanted && !w.managed {
		w.setLocked(wan, f)
	}
}

// The questions. Modems of the last years have moved what there is to know of
// a PIN to another service, and say so.
const (
	askServing = "--get-serving-system"
	askSignal  = "--get-signal-info"
	askPIN     = "--get-pin-status"
	askSIM     = "--uim-get-sim-state"
)

// ask asks for the network and then, of one that serves, for its signal, else
// whether the SIM is locked. A channel that is not nil is closed when a question
// that could not be ended has ended after all.
func (w *Watcher) ask(ctx context.Context, device string) (f Facts, stuckC <-chan struct{}) {
	f.Source = SourceUQMI
	for question := askServing; question != ""; {
		text, stuckC, err := run(ctx, w.patience, w.uqmi, "-s", "-d", device, question)
		var answer []member
		if err == nil {
			answer, err = parseMembers(text)
		}
		if err != nil {
			w.log.Debug("uqmi", "device", device, "question", question, "error", err)
			return f, stuckC
		}
		f.Present = true
		switch question {
		case askServing:
			question = takeServing(&f, answer)
		case askSignal:
			takeSignal(&f, answer)
			question = ""
		case askPIN, askSIM:
			if takeLock(&f, answer) || question == askSIM {
				question = ""
			} else {
				question = askSIM
			}
		}
	}
	return f, nil
}

// run runs a program for some time at most. One that cannot be killed, for
// the kernel waits for its modem, is left alone; stuckC is closed when it ends.
func run(ctx context.Context, patience time.Duration, program string, args ...string) (answer []byte, stuckC <-chan struct{}, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	// It gives back the client of the modem's that it is, of which there are few, if it is
	// told to end, and not if it is killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var out limited
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second // before it is killed, and for what it has left behind, and has our pipe
	doneC := make(chan struct{})
	var failed error
	go func() {
		defer close(doneC)
		failed = cmd.Run()
	}()
	select {
	case <-doneC:
	case <-after(ctx, 2*time.Second):
		return nil, doneC, errors.New("cannot be ended")
	}
	if failed != nil {
		return nil, nil, fmt.Errorf("running %s: %w", program, errors.Join(ctx.Err(), failed))
	}
	return out.Bytes(), nil, nil
}

// after receives some time after ctx has ended.
func after(ctx context.Context, d time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { time.AfterFunc(d, func() { c <- time.Now() }) })
	return c
}

// limited keeps the first bytes of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), maxAnswer-l.Len())])
	return len(p), nil
}

// takeServing takes the answer to askServing, and tells what to ask next.
func takeServing(f *Facts, answer []member) (next string) {
	roaming := false
	for _, m := range answer {
		switch m.key {
		case "registration":
			f.Registration = map[string]Registration{"registered": Home, "not_registered": Idle, "searching": Searching,
				"registering_denied": Denied}[m.text]
		case "plmn_description":
			f.Operator = clean(m.text)
		case "roaming":
			roaming = m.text == "true"
		}
	}
	if f.Registration == Home && roaming {
		f.Registration, f.Roaming = Roaming, true
	}
	if f.Registration != Home && f.Registration != Roaming {
		f.Operator = ""
		return askPIN
	}
	return askSignal
}

// takeLock takes the answer to askPIN or askSIM, and says whether it was one.
func takeLock(f *Facts, answer []member) (known bool) {
	var required uint32
	retries := make(map[uint32]uint32)
	for _, m := range answer {
		switch m.key {
		case "pin1_status":
			known = true
			required = map[string]uint32{"not_verified": lockPIN, "blocked": lockPUK, "permanently_blocked": lockPUK}[m.text]
		case "pin1_verify_tries":
			retries[lockPIN] = uint32(m.number())
		case "pin1_unblock_tries", "pin1_unlock_tries": // as the one and the other question has it
			retries[lockPUK] = uint32(m.number())
		}
	}
	if required != 0 {
		f.Lock = lock(required, retries)
	}
	return known
}

// takeSignal takes the answer to askSignal: for each technology its type, and
// then its values.
func takeSignal(f *Facts, answer []member) {
	names := map[string]string{"5gnr": "5G", "lte": "LTE", "wcdma": "UMTS", "gsm": "GSM", "hdr": "EV-DO", "cdma": "1xRTT"}
	for _, m := range answer {
		switch m.key {
		case "type":
			name := names[m.text]
			if f.Technology == "LTE" && name == "5G" {
				name = "5G NSA"
			}
			if name != "" {
				f.Technology = name
			}
		case "rssi":
			// From -113 to -51 dBm, as ModemManager has it.
			if dbm := m.number(); dbm != 0 {
				f.Signal = int(min(max(dbm+113, 0), 62) * 100 / 62)
			}
		case "rsrp":
			f.RSRP = m.number()
		case "rsrq":
			f.RSRQ = m.number()
		case "snr":
			f.SINR = m.number()
			if !m.fraction() { // versions before 2022 print tenths
				f.SINR /= 10
			}
		}
	}
}
