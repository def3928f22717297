package logger

import (
	"errors"
	"strconv"

	"github.com/docker/go-units"

	"gantry/api/logfile"
)

var jsonFileKeys = []string{"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}

func checkJSONFile(c map[string]string) error {
	return onlyKeys(c, jsonFileKeys, "unknown log opt '%s' for json-file log driver")
}

func jsonFiles(c map[string]string) (Files, error) {
	f := Files{Format: logfile.JSON, MaxFile: 1}
	var err error
	if v, ok := c["max-size"]; ok && v != "-1" {
		if f.MaxSize, err = units.FromHumanSize(v); err != nil {
			return f, err
		}
		if f.MaxSize <= 0 {
			return f, errors.New("max-size must be a positive number")
		}
	}
	if v, ok := c["max-file"]; ok {
		if f.MaxFile, err = strconv.Atoi(v); err != nil {
			return f, err
		}
		if f.MaxFile < 1 {
			return f, errors.New("max-file cannot be less than 1")
		}
		f.MaxFile = min(f.MaxFile, maxFiles)
	}
	if v, ok := c["compress"]; ok {
		if f.Compress, err = strconv.ParseBool(v); err != nil {
			return f, err
		}
		if f.Compress && (f.MaxFile == 1 || f.MaxSize == 0) {
			return f, errors.New("compress cannot be true when max-file is less than 2 or max-size is not set")
		}
	}
	return f, nil
}
