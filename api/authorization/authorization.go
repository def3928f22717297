// Package authorization is the wire of Docker's authorization plugins: what one is asked
// about a request and its answer, and what it says. Docker's own package of these types
// comes with its whole plugin system, which the engine does not have.
package authorization

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
)

// Request is what a plugin is asked. The fields of the response are empty when it is
// asked before the engine has one.
type Request struct {
	User            string `json:"User,omitempty"`            // the common name of the client's certificate
	UserAuthNMethod string `json:"UserAuthNMethod,omitempty"` // "TLS" where there is a user

	RequestMethod           string            `json:"RequestMethod,omitempty"`
	RequestURI              string            `json:"RequestUri,omitempty"`
	RequestBody             []byte            `json:"RequestBody,omitempty"`
	RequestHeaders          map[string]string `json:"RequestHeaders,omitempty"` // without credentials
	RequestPeerCertificates []Certificate     `json:"RequestPeerCertificates,omitempty"`

	ResponseStatusCode int               `json:"ResponseStatusCode,omitempty"`
	ResponseBody       []byte            `json:"ResponseBody,omitempty"`
	ResponseHeaders    map[string]string `json:"ResponseHeaders,omitempty"`
}

// Response is what a plugin says.
type Response struct {
	Allow bool   `json:"Allow"`
	Msg   string `json:"Msg,omitempty"` // why
	Err   string `json:"Err,omitempty"` // that it could not decide
}

// Certificate is one of a client's, on the wire as base64 of PEM.
type Certificate struct{ *x509.Certificate }

// MarshalJSON writes the PEM form.
func (c Certificate) MarshalJSON() ([]byte, error) {
	return json.Marshal(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// Asker asks all plugins about one request.
type Asker interface {
	Request(ctx context.Context, r *Request) error
	Response(ctx context.Context, r *Request) error
}
