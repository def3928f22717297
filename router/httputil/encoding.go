package httputil

import (
	"compress/flate"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// WriteEncoded lets write make the body, in the encoding that the client prefers of gzip
// and deflate; as it is when the client names neither.
func WriteEncoded(w http.ResponseWriter, r *http.Request, write func(io.Writer) error) error {
	var enc io.WriteCloser
	switch negotiate(r.Header.Values("Accept-Encoding")) {
	case "gzip":
		w.Header().Set("Content-Encoding", "gzip")
		enc = gzip.NewWriter(w)
	case "deflate":
		w.Header().Set("Content-Encoding", "deflate")
		enc, _ = flate.NewWriter(w, flate.DefaultCompression) // fails for bad levels only
	default:
		return write(w)
	}
	if err := write(enc); err != nil {
		return err
	}
	return enc.Close()
}

// negotiate picks from Accept-Encoding values (RFC 9110, 12.5.3); gzip when both are
// as welcome, "" when identity is.
func negotiate(values []string) string {
	best, bestQ := "", 0.0
	for _, item := range strings.Split(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(item, ";")
		name = strings.ToLower(strings.TrimSpace(name))
		q := quality(params)
		if name == "identity" && q > bestQ {
			best, bestQ = "", q
		}
		if name == "*" {
			name = "gzip"
		}
		if name != "gzip" && name != "deflate" || q <= 0 {
			continue
		}
		if q > bestQ || q == bestQ && name == "gzip" {
			best, bestQ = name, q
		}
	}
	return best
}

func quality(params string) float64 {
	v, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(params)), "q=")
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil || q < 0 || q > 1 {
		return 0
	}
	return q
}
