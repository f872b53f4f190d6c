// Package fakemeter is an OpenTelemetry MeterProvider for tests, which keeps what
// it is given. The SDK is a module that the root does without.
package fakemeter

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// A Provider makes instruments that keep what they are given. The zero Provider is
// ready. Its methods may be called concurrently.
type Provider struct {
	noop.MeterProvider

	mu        sync.Mutex
	durations map[string]int // how many, by series
	counted   map[attribute.Distinct]*int
	callbacks map[*callback]struct{}
	Units     map[string]string // of each instrument
}

type callback struct {
	noop.Registration

	of *Provider
	f  metric.Callback
}

// Unregister ends the callback.
func (c *callback) Unregister() error {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	delete(c.of.callbacks, c)
	return nil
}

// Meter returns a Meter of p.
func (p *Provider) Meter(string, ...metric.MeterOption) metric.Meter { return &meter{of: p} }

type meter struct {
	noop.Meter

	of *Provider
}

func (m *meter) unit(name, unit string) {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	if m.of.Units == nil {
		m.of.Units = map[string]string{}
	}
	m.of.Units[name] = unit
}

func (m *meter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.unit(name, metric.NewFloat64HistogramConfig(o...).Unit())
	return &histogram{of: m.of, name: name}, nil
}

func (m *meter) Int64ObservableUpDownCounter(name string, o ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	m.unit(name, metric.NewInt64ObservableUpDownCounterConfig(o...).Unit())
	return &upDown{name: name}, nil
}

func (m *meter) Float64ObservableCounter(name string, o ...metric.Float64ObservableCounterOption) (metric.Float64ObservableCounter, error) {
	m.unit(name, metric.NewFloat64ObservableCounterConfig(o...).Unit())
	return &counter{name: name}, nil
}

func (m *meter) Float64ObservableGauge(name string, o ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	m.unit(name, metric.NewFloat64ObservableGaugeConfig(o...).Unit())
	return &gauge{name: name}, nil
}

func (m *meter) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	m.of.mu.Lock()
	defer m.of.mu.Unlock()
	if m.of.callbacks == nil {
		m.of.callbacks = map[*callback]struct{}{}
	}
	c := &callback{of: m.of, f: f}
	m.of.callbacks[c] = struct{}{}
	return c, nil
}

type histogram struct {
	noop.Float64Histogram

	of   *Provider
	name string
}

// Record counts a duration. Like the SDK it finds the series of attributes that
// it has seen before without an allocation.
func (h *histogram) Record(_ context.Context, _ float64, o ...metric.RecordOption) {
	attributes := metric.NewRecordConfig(o).Attributes()
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if h.of.counted == nil {
		h.of.counted, h.of.durations = map[attribute.Distinct]*int{}, map[string]int{}
	}
	h.of.durations[h.name]++
	n := h.of.counted[attributes.Equivalent()]
	if n == nil {
		n = new(int)
		h.of.counted[attributes.Equivalent()] = n
	}
	*n++
}

type counter struct {
	noop.Float64ObservableCounter

	name string
}

type gauge struct {
	noop.Float64ObservableGauge

	name string
}

type upDown struct {
	noop.Int64ObservableUpDownCounter

	name string
}

// Durations returns how many durations the histogram of this name was given.
func (p *Provider) Durations(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.durations[name]
}

// Series returns how many different attributes durations had.
func (p *Provider) Series() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.counted)
}

// Collect returns what the callbacks observe, by instrument and attributes:
// "turret.refusals{turret.layer=limit,turret.stack=front}".
func (p *Provider) Collect() (map[string]float64, error) {
	p.mu.Lock()
	callbacks := make([]metric.Callback, 0, len(p.callbacks))
	for c := range p.callbacks {
		callbacks = append(callbacks, c.f)
	}
	p.mu.Unlock()
	o := &observer{values: map[string]float64{}}
	for _, f := range callbacks {
		if err := f(context.Background(), o); err != nil {
			return nil, err
		}
	}
	return o.values, o.err
}

type observer struct {
	noop.Observer

	values map[string]float64
	err    error
}

func (o *observer) observe(name string, v float64, options []metric.ObserveOption) {
	var attributes []string
	set := metric.NewObserveConfig(options).Attributes()
	for _, a := range set.ToSlice() {
		attributes = append(attributes, fmt.Sprintf("%s=%s", a.Key, a.Value.String()))
	}
	key := name + "{" + strings.Join(attributes, ",") + "}"
	if _, twice := o.values[key]; twice {
		o.err = fmt.Errorf("%s was observed twice", key)
	}
	o.values[key] = v
}

func (o *observer) ObserveFloat64(of metric.Float64Observable, v float64, options ...metric.ObserveOption) {
	switch of := of.(type) {
	case *counter:
		o.observe(of.name, v, options)
	case *gauge:
		o.observe(of.name, v, options)
	}
}

func (o *observer) ObserveInt64(of metric.Int64Observable, v int64, options ...metric.ObserveOption) {
	if of, ok := of.(*upDown); ok {
		o.observe(of.name, float64(v), options)
	}
}
