package registry

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	registrytypes "github.com/docker/docker/api/types/registry"
)

// maxToken bounds a token server's answer, in bytes.
const maxToken = 1 << 20

// identityToken asks the token server of a registry, if it has one, for a token that
// stands for the password from now on. "" when there is none to be had: the password
// itself is good, as has been tried.
func identityToken(ctx context.Context, c *http.Client, base string, a *registrytypes.AuthConfig) string {
	if a.Username == "" || a.Password == "" {
		return ""
	}
	realm := tokenServer(ctx, c, base)
	if realm == nil {
		return ""
	}
	q := realm.Query()
	q.Set("account", a.Username)
	q.Set("client_id", "docker")
	q.Set("offline_token", "true")
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return ""
	}
	req.SetBasicAuth(a.Username, a.Password)
	var says struct {
		RefreshToken string `json:"refresh_token"`
	}
	if resp, err := c.Do(req); err == nil {
		defer resp.Body.Close()
		_ = json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&says)
	}
	return says.RefreshToken
}

var challengeParameter = regexp.MustCompile(`([a-z]+)="([^"]*)"`)

// tokenServer is where the registry sends those who want in, with its service; nil
// where it keeps its own passwords, or none.
func tokenServer(ctx context.Context, c *http.Client, base string) *url.URL {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base, nil)
	if err != nil {
		return nil
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil
	}
	resp.Body.Close()
	scheme, rest, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), " ")
	if resp.StatusCode != http.StatusUnauthorized || !strings.EqualFold(scheme, "bearer") {
		return nil
	}
	params := map[string]string{}
	for _, m := range challengeParameter.FindAllStringSubmatch(rest, -1) {
		params[m[1]] = m[2]
	}
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "http" && realm.Scheme != "https" {
		return nil
	}
	q := realm.Query()
	q.Set("service", params["service"])
	realm.RawQuery = q.Encode()
	return realm
}
