package fluentd

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"gantry/daemon/logger/target"
)

const (
	defaultHost = "127.0.0.1"
	defaultPort = "24224"

	minReconnect = 100 * time.Millisecond
	maxReconnect = 10 * time.Second
)

var keys = []string{
	"env", "env-regex", "labels", "labels-regex", "tag", "fluentd-address", "fluentd-async",
	"fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries", "fluentd-request-ack",
	"fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
}

// Check looks at the driver's options as dockerd does.
func Check(c map[string]string) error {
	for k := range c {
		if !slices.Contains(keys, k) {
			return fmt.Errorf("unknown log opt '%s' for fluentd log driver", k)
		}
	}
	_, err := parse(c)
	return err
}

type options struct {
	network, address      string
	pace                  target.Pace
	subSecond, requestAck bool
	writeTimeout          time.Duration // 0: the connection's own patience
	reconnect             time.Duration // 0: never
}

func parse(c map[string]string) (o options, err error) {
	if o.network, o.address, err = parseAddress(c["fluentd-address"]); err != nil {
		return o, fmt.Errorf("invalid fluentd-address (%s): %w", c["fluentd-address"], err)
	}
	if v := c["fluentd-buffer-limit"]; v != "" {
		n, err := units.RAMInBytes(v)
		if err != nil {
			return o, err
		}
		o.pace.Batch = int(min(n, math.MaxInt32))
	}
	if v := c["fluentd-retry-wait"]; v != "" {
		if o.pace.First, err = time.ParseDuration(v); err != nil {
			return o, err
		}
	}
	if v := c["fluentd-max-retries"]; v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return o, err
		}
		if n > math.MaxInt32 {
			return o, errors.New("invalid fluentd-max-retries: value out of range")
		}
		o.pace.Tries = int(n)
	}
	for k, to := range map[string]*bool{
		"fluentd-async": &o.pace.Lazy, "fluentd-sub-second-precision": &o.subSecond, "fluentd-request-ack": &o.requestAck,
	} {
		if v := c[k]; v != "" {
			if *to, err = strconv.ParseBool(v); err != nil {
				return o, err
			}
		}
	}
	return o, o.parseTimes(c)
}

func (o *options) parseTimes(c map[string]string) error {
	const interval, timeout = "fluentd-async-reconnect-interval", "fluentd-write-timeout"
	if v := c[interval]; v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("invalid value for %s: %w", interval, err)
		}
		if d != 0 && (d < minReconnect || d > maxReconnect) {
			return fmt.Errorf("invalid value for %s: value (%q) must be between %s and %s", interval, d, minReconnect, maxReconnect)
		}
		if o.pace.Lazy {
			o.reconnect = d
		}
	}
	if v := c[timeout]; v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("invalid value for %s: value must be a duration: %w", timeout, err)
		}
		if d < 0 {
			return fmt.Errorf("invalid value for %s: value must be a duration that is non-negative", timeout)
		}
		o.writeTimeout = d
	}
	return nil
}

func parseAddress(s string) (network, address string, err error) {
	if s == "" {
		return "tcp", net.JoinHostPort(defaultHost, defaultPort), nil
	}
	if !strings.Contains(s, "://") {
		s = "tcp://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix":
		if strings.TrimLeft(u.Path, "/") == "" {
			return "", "", errors.New("path is empty")
		}
		return u.Scheme, u.Path, nil
	case "tcp", "tls":
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	if u.Path != "" {
		return "", "", errors.New("should not contain a path element")
	}
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = defaultHost
	}
	if port == "" {
		port = defaultPort
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", fmt.Errorf("invalid port: %w", err)
	}
	return u.Scheme, net.JoinHostPort(host, port), nil
}
