package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/docker/go-connections/tlsconfig"
)

const (
	// mimeType is the content type of both directions.
	mimeType = "application/vnd.docker.plugins.v1.2+json"
	// maxAnswer bounds what a plugin may say, in bytes.
	maxAnswer = 16 << 20
	// redial is how long a plugin that takes no connection is tried: it may be on its way
	// to its next version.
	redial = 5 * time.Second
	// pause is the time between two tries.
	pause = 100 * time.Millisecond
)

// Client talks to one plugin. It is safe for concurrent use.
type Client struct {
	name string
	base string // "http://host"
	http *http.Client
}

func newClient(name string, p place) (*Client, error) {
	u, err := url.Parse(p.Addr)
	if err != nil {
		return nil, err
	}
	network, addr, scheme := "tcp", u.Host, "http"
	if u.Scheme == "unix" {
		network, addr = "unix", u.Path
	}
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
	}
	if u.Scheme == "https" || p.TLSConfig != nil && network == "tcp" {
		opts := tlsconfig.Options{}
		if p.TLSConfig != nil {
			opts = *p.TLSConfig
		}
		if tr.TLSClientConfig, err = tlsconfig.Client(opts); err != nil {
			return nil, fmt.Errorf("plugin %s: %w", name, err)
		}
		scheme = "https"
	}
	host := u.Host
	if network == "unix" {
		host = "plugin.moby.localhost" // what plugins written for Docker are told
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{name: name, base: scheme + "://" + host, http: &http.Client{Transport: tr, CheckRedirect: noRedirect}}, nil
}

// Name is the plugin's.
func (c *Client) Name() string { return c.name }

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Call asks the plugin: in is the argument of method, nil for none, and out takes its
// answer. Only a connection that is not taken is tried again, for a while.
func (c *Client) Call(ctx context.Context, method string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	resp, err := c.post(ctx, method, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", method, err)
	case len(said) > maxAnswer:
		return fmt.Errorf("%s: answer of more than %d bytes", method, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return refusal(method, resp, said)
	}
	if err := json.Unmarshal(said, out); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return nil
}

func (c *Client) post(ctx context.Context, method string, body []byte) (*http.Response, error) {
	for deadline := time.Now().Add(redial); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/"+method, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", mimeType)
		req.Header.Set("Content-Type", mimeType)
		resp, err := c.http.Do(req)
		var op *net.OpError
		if err == nil || !errors.As(err, &op) || op.Op != "dial" || !time.Now().Before(deadline) {
			return resp, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// refusal is the error that a plugin answers with a status other than 200.
func refusal(method string, resp *http.Response, said []byte) error {
	var plain struct{ Err string }
	if json.Unmarshal(said, &plain) == nil && plain.Err != "" {
		return fmt.Errorf("%s: %s", method, plain.Err)
	}
	text := string(bytes.TrimSpace(said[:min(len(said), 1024)]))
	if text == "" {
		text = resp.Status
	}
	return fmt.Errorf("%s: %s", method, text)
}
