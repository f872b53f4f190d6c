package balance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"google.golang.org/grpc/serviceconfig"
)

// wire is [Config] as it is written in JSON. Zeros are left out.
// The names are in lowerCamelCase, as those of gRPC's own policies are. A new field of
// Config needs a line here, in MarshalJSON and in UnmarshalJSON: the tests compare a
// config with what is read back.
type wire struct {
	Load       LoadKind `json:"load,omitzero"`
	Decay      seconds  `json:"decay,omitzero"`
	DefaultRTT seconds  `json:"defaultRtt,omitzero"`
	Penalty    seconds  `json:"penalty,omitzero"`
	Choices    int      `json:"choices,omitzero"`
	Limit      int      `json:"limit,omitzero"`
	OnFull     Recourse `json:"onFull,omitzero"`
	Failures   struct {
		Consecutive int     `json:"consecutive,omitzero"`
		Ratio       float64 `json:"ratio,omitzero"`
		MinCalls    int     `json:"minCalls,omitzero"`
		Window      seconds `json:"window,omitzero"`
		BanFor      seconds `json:"banFor,omitzero"`
		MaxBanFor   seconds `json:"maxBanFor,omitzero"`
	} `json:"failures,omitzero"`
	Outliers struct {
		Consecutive int     `json:"consecutive,omitzero"`
		BanFor      seconds `json:"banFor,omitzero"`
		MaxBanFor   seconds `json:"maxBanFor,omitzero"`
	} `json:"outliers,omitzero"`
	MaxBanned float64  `json:"maxBanned,omitzero"`
	OnBanned  Recourse `json:"onBanned,omitzero"`
	SlowStart seconds  `json:"slowStart,omitzero"`
	Subset    struct {
		Size   int    `json:"size,omitzero"`
		Client string `json:"client,omitzero"`
	} `json:"subset,omitzero"`
	NoAlarms   bool   `json:"ignoreAlarms,omitzero"`
	Classifier string `json:"classifier,omitzero"`
	Seed       uint64 `json:"seed,omitzero"`
}

// seconds is a duration written as gRPC's service config writes durations: a
// decimal number of seconds with an s.
// That is the JSON form of google.protobuf.Duration, which xDS writes too.
type seconds time.Duration

// MarshalText writes every nanosecond, so that nothing is lost when a config is
// written and parsed again.
func (s seconds) MarshalText() ([]byte, error) {
	// As an unsigned number the least int64 has an absolute value too.
	sign, abs := "", uint64(s)
	if s < 0 {
		sign, abs = "-", -abs
	}
	text := fmt.Sprintf("%s%d.%09d", sign, abs/1e9, abs%1e9)
	return append(bytes.TrimRight(bytes.TrimRight([]byte(text), "0"), "."), 's'), nil
}

// UnmarshalText reads what time.ParseDuration reads: "1.5s", and "1500ms" too.
func (s *seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		// The one type of error to which the decoder adds the name of the field.
		return &json.UnmarshalTypeError{Value: strconv.Quote(string(text)), Type: reflect.TypeFor[seconds]()}
	}
	*s = seconds(d)
	return nil
}

// MarshalJSON writes c as it stands in a service config.
// It has a value receiver, so that a Config inside another value is written like this
// too. It does not validate.
func (c Config) MarshalJSON() ([]byte, error) {
	w := wire{
		Load: c.Load, Decay: seconds(c.Decay), DefaultRTT: seconds(c.DefaultRTT), Penalty: seconds(c.Penalty),
		Choices: c.Choices, Limit: c.Limit, OnFull: c.OnFull,
		MaxBanned: c.MaxBanned, OnBanned: c.OnBanned, SlowStart: seconds(c.SlowStart), NoAlarms: c.IgnoreAlarms, Classifier: c.Classifier, Seed: c.Seed,
	}
	w.Subset.Size, w.Subset.Client = c.Subset.Size, c.Subset.Client
	f, o := &w.Failures, &w.Outliers
	f.Consecutive, f.Ratio, f.MinCalls, f.Window = c.Failures.Consecutive, c.Failures.Ratio, c.Failures.MinCalls, seconds(c.Failures.Window)
	f.BanFor, f.MaxBanFor = seconds(c.Failures.BanFor), seconds(c.Failures.MaxBanFor)
	o.Consecutive, o.BanFor, o.MaxBanFor = c.Outliers.Consecutive, seconds(c.Outliers.BanFor), seconds(c.Outliers.MaxBanFor)
	return json.Marshal(w)
}

// UnmarshalJSON reads what MarshalJSON writes. It refuses unknown names, and
// what [Config.Validate] refuses; c is then unchanged.
// An unknown name is an error, not ignored: a misspelled limit would be no limit.
func (c *Config) UnmarshalJSON(text []byte) error {
	var w wire
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Type == reflect.TypeFor[seconds]() {
			return fmt.Errorf("balance: config: %s: %s is no duration such as \"1.5s\"", e.Field, e.Value)
		}
		return fmt.Errorf("balance: config: %w", err)
	}
	f, o := w.Failures, w.Outliers
	read := Config{
		Load: w.Load, Decay: time.Duration(w.Decay), DefaultRTT: time.Duration(w.DefaultRTT), Penalty: time.Duration(w.Penalty),
		Choices: w.Choices, Limit: w.Limit, OnFull: w.OnFull,
		Failures: Failures{f.Consecutive, f.Ratio, f.MinCalls, time.Duration(f.Window), time.Duration(f.BanFor), time.Duration(f.MaxBanFor)},
		Outliers: Outliers{o.Consecutive, time.Duration(o.BanFor), time.Duration(o.MaxBanFor)},
		Subset:   Subset(w.Subset),

		MaxBanned: w.MaxBanned, OnBanned: w.OnBanned, SlowStart: time.Duration(w.SlowStart), IgnoreAlarms: w.NoAlarms, Classifier: w.Classifier, Seed: w.Seed,
	}
	if err := read.Validate(); err != nil {
		return err
	}
	*c = read
	return nil
}

// parsed is a Config as gRPC hands it around. Policies that have this one as a
// child write it as JSON and parse it again; Config's MarshalJSON is promoted.
type parsed struct {
	serviceconfig.LoadBalancingConfig
	Config
}
