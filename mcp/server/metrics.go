// SPDX-FileCopyrightText: The braid authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"braid/transport/convert"
)

// Stats counts what a converter has done.
type Stats struct {
	Accepted    atomic.Uint64
	AcceptedTCP atomic.Uint64 // of those, without MPTCP
	Relayed     atomic.Uint64
	Open        atomic.Int64
	Up, Down    atomic.Uint64 // bytes of closed connections, from and to clients
	Reset       atomic.Uint64 // nothing to say: garbage, or the client went away
	Shed        atomic.Uint64 // strangers: the oldest of too many, or too many errors
	Panics      atomic.Uint64 // connections that met a fault of ours
	// WrongCookies are cookies and proofs of nobody's.
	WrongCookies atomic.Uint64
	errors       [256]atomic.Uint64
}

func (st *Stats) refused(code convert.ErrorCode) { st.errors[code].Add(1) }

// Errors is how many clients got an error.
func (st *Stats) Errors(code convert.ErrorCode) uint64 { return st.errors[code].Load() }

// ServeMetrics answers Prometheus at addr until ctx ends.
func (s *Server) ServeMetrics(ctx context.Context, addr string) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, v *atomic.Uint64, labels prometheus.Labels) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "braid_mcp", Name: name, Help: help, ConstLabels: labels},
			func() float64 { return float64(v.Load()) }))
	}
	st, d := &s.Stats, &s.dialer.Stats
	counter("accepted_total", "Client connections.", &st.Accepted, nil)
	counter("accepted_tcp_total", "Client connections without MPTCP.", &st.AcceptedTCP, nil)
	counter("relayed_total", "Connections carried.", &st.Relayed, nil)
	counter("bytes_total", "Bytes of closed connections.", &st.Up, prometheus.Labels{"direction": "up"})
	counter("bytes_total", "Bytes of closed connections.", &st.Down, prometheus.Labels{"direction": "down"})
	counter("reset_total", "Client connections reset without an answer.", &st.Reset, nil)
	counter("shed_total", "Connections of strangers shed because there were too many.", &st.Shed, nil)
	counter("panics_total", "Connections that met a fault of the converter's.", &st.Panics, nil)
	counter("wrong_cookies_total", "Cookies and proofs that are no client's.", &st.WrongCookies, nil)
	counter("guard_destroyed_total", "Dead subflows given up.", &s.guard.Destroyed, nil)
	reg.MustRegister(perClient{s}, onPath{s})
	counter("servers_total", "Connections to servers.", &d.MPTCP, prometheus.Labels{"protocol": "mptcp"})
	counter("servers_total", "Connections to servers.", &d.TCP, prometheus.Labels{"protocol": "tcp"})
	for code := range st.errors {
		if c := convert.ErrorCode(code); c.String() != "unknown error" {
			counter("errors_total", "Errors sent to clients.", &st.errors[code], prometheus.Labels{"code": strconv.Itoa(code), "name": c.String()})
		}
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "braid_mcp", Name: "open", Help: "Connections being carried."},
		func() float64 { return float64(st.Open.Load()) }))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: requestTimeout, WriteTimeout: time.Minute, IdleTimeout: scrapeIdle}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { hs.Close() })
	defer stop()
	if err := hs.Serve(&few{Listener: l, room: make(chan struct{}, maxScrapers)}); err != http.ErrServerClosed {
		return err
	}
	return nil
}

const (
	// maxScrapers bounds the connections for metrics, which have files that
	// clients' connections need, wherever the address can be reached from.
	maxScrapers = 32
	// scrapeIdle is how long one of them may wait for its next question.
	scrapeIdle = 30 * time.Second
)

// few is a listener with few connections at a time: one more is closed.
type few struct {
	net.Listener
	room chan struct{} // has an element for each
}

func (f *few) Accept() (net.Conn, error) {
	for {
		c, err := f.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case f.room <- struct{}{}:
			return &one{Conn: c, few: f}, nil
		default:
			c.Close()
		}
	}
}

// one is a connection of a few.
type one struct {
	net.Conn
	few  *few
	once sync.Once
}

func (o *one) Close() error {
	o.once.Do(func() { <-o.few.room })
	return o.Conn.Close()
}

// perClient collects what is known of each client.
type perClient struct{ s *Server }

var (
	clientLabel       = []string{"client"}
	clientOpen        = prometheus.NewDesc("braid_mcp_client_open", "A client's connections.", clientLabel, nil)
	clientSubflows    = prometheus.NewDesc("braid_mcp_client_subflows", "Subflows of a client's connections.", clientLabel, nil)
	clientRelayed     = prometheus.NewDesc("braid_mcp_client_relayed_total", "A client's connections carried.", clientLabel, nil)
	clientBytes       = prometheus.NewDesc("braid_mcp_client_bytes_total", "A client's bytes.", []string{"client", "direction"}, nil)
	clientRefused     = prometheus.NewDesc("braid_mcp_client_refused_total", "A client's connections refused.", []string{"client", "reason"}, nil)
	clientDescriptors = []*prometheus.Desc{clientOpen, clientSubflows, clientRelayed, clientBytes, clientRefused}
)

// Describe is prometheus.Collector's.
func (perClient) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range clientDescriptors {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (p perClient) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, c := range p.s.clientStatus() {
		gauge(clientOpen, float64(c.Open), c.Name)
		gauge(clientSubflows, float64(c.Subflows), c.Name)
		count(clientRelayed, c.Relayed, c.Name)
		count(clientBytes, c.Up, c.Name, "up")
		count(clientBytes, c.Down, c.Name, "down")
		for reason, n := range c.Refused {
			count(clientRefused, n, c.Name, reason)
		}
	}
}

// onPath collects what the converter does on the path, if it stands there.
type onPath struct{ s *Server }

var (
	onPathOpen       = prometheus.NewDesc("braid_mcp_on_path_open", "Connections being converted on the path.", nil, nil)
	onPathRemembered = prometheus.NewDesc("braid_mcp_on_path_remembered", "Forwarded connections that are remembered.", nil, nil)
	onPathTotal      = prometheus.NewDesc("braid_mcp_on_path_total", "What has happened on the path, by what.", []string{"what"}, nil)
)

// Describe is prometheus.Collector's.
func (onPath) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{onPathOpen, onPathRemembered, onPathTotal} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (p onPath) Collect(ch chan<- prometheus.Metric) {
	st := p.s.OnPath.Status()
	if st == nil {
		return
	}
	ch <- prometheus.MustNewConstMetric(onPathOpen, prometheus.GaugeValue, float64(st.Open))
	ch <- prometheus.MustNewConstMetric(onPathRemembered, prometheus.GaugeValue, float64(st.Remembered))
	for what, n := range map[string]uint64{
		"converted": st.Converted, "failed": st.Failed, "forwarded": st.Forwarded, "announced": st.Announced, "heard": st.Heard,
		"joined": st.Joined, "packets_shown": st.Shown, "packets_translated": st.Translated, "packets_dropped": st.Dropped,
	} {
		ch <- prometheus.MustNewConstMetric(onPathTotal, prometheus.CounterValue, float64(n), what)
	}
}
