package logger

import "strconv"

const (
	cachePrefix      = "cache-"
	cacheDisabledKey = cachePrefix + "disabled"
)

// cacheKeys are options of every driver; those that need no cache ignore them.
var cacheKeys = map[string]bool{
	cacheDisabledKey: true, cachePrefix + "max-size": true, cachePrefix + "max-file": true, cachePrefix + "compress": true,
}

// cacheFiles says how the log of a container with a remote driver is kept here: it is
// what forwarders read and, unless cache-disabled says otherwise, `docker logs` too. The
// form is that of the local driver, as with Docker.
func cacheFiles(c map[string]string) (Files, error) { return parseLocal(c, cachePrefix) }

func cacheDisabled(c map[string]string) bool {
	off, _ := strconv.ParseBool(c[cacheDisabledKey]) // checked before
	return off
}
