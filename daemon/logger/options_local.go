package logger

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/docker/go-units"

	"gantry/api/logfile"
)

var localKeys = []string{"max-file", "max-size", "compress"}

func checkLocal(c map[string]string) error {
	return onlyKeys(c, localKeys, "unknown log opt '%s' for log driver local")
}

func localFiles(c map[string]string) (Files, error) { return parseLocal(c, "") }

// parseLocal reads the options of files in the form of Docker's local driver, whose
// names begin with prefix.
func parseLocal(c map[string]string, prefix string) (Files, error) {
	f := Files{Format: logfile.Local, MaxSize: 20 << 20, MaxFile: 5, Compress: true}
	var err error
	if k := prefix + "max-size"; c[k] != "" {
		if f.MaxSize, err = units.FromHumanSize(c[k]); err != nil {
			return f, fmt.Errorf("invalid value for %s: %s: %w", k, c[k], err)
		}
	}
	if k := prefix + "max-file"; c[k] != "" {
		if f.MaxFile, err = strconv.Atoi(c[k]); err != nil {
			return f, fmt.Errorf("invalid value for %s: %s: %w", k, c[k], err)
		}
	}
	if k := prefix + "compress"; c[k] != "" {
		if f.Compress, err = strconv.ParseBool(c[k]); err != nil {
			return f, fmt.Errorf("error reading %s log option: %w", k, err)
		}
	}
	switch {
	case f.MaxSize < 0:
		return f, errors.New("max size should be a positive number")
	case f.MaxFile < 0:
		return f, errors.New("max file count cannot be less than 0")
	case f.Compress && f.MaxFile <= 1:
		return f, errors.New("compression cannot be enabled when max file count is 1")
	}
	f.MaxFile = min(max(f.MaxFile, 1), maxFiles)
	return f, nil
}
