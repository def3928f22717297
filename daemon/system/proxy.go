package system

import (
	"net/url"
	"os"
)

type proxies struct{ http, https, none string }

// proxies are what the engine goes through, without the credentials in them.
func (s *Service) proxies() proxies {
	return proxies{
		http:  maskCredentials(configured(s.cfg.Load().HTTPProxy, "HTTP_PROXY", "http_proxy")),
		https: maskCredentials(configured(s.cfg.Load().HTTPSProxy, "HTTPS_PROXY", "https_proxy")),
		none:  configured(s.cfg.Load().NoProxy, "NO_PROXY", "no_proxy"),
	}
}

func configured(value string, env ...string) string {
	for _, key := range env {
		if value == "" {
			value = os.Getenv(key)
		}
	}
	return value
}

func maskCredentials(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
