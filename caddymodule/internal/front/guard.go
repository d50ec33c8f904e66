package front

import (
	"errors"
	"net/http"
	"strings"
)

// errMethod: what the door does not do for anybody.
var errMethod = errors.New("method is not served")

// allowed are the methods that pass the door, as a 405 names them (RFC 9110,
// section 10.2.1). Others that nobody knows pass too: the application may.
const allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// guard refuses what must not pass, and takes out of a request what two readers
// could understand in two ways.
func guard(w http.ResponseWriter, r *http.Request) error {
	if tunnels(r) || r.Method == http.MethodTrace {
		w.Header().Set("Allow", allowed)
		if r.Method == http.MethodConnect && r.ProtoMajor == 1 {
			// Whoever has asked may send into his tunnel already, and it would be
			// taken for requests (RFC 9110, section 9.3.6).
			w.Header().Set("Connection", "close")
		}
		return errMethod
	}
	// The application would speak HTTP/2 with the client, past every rule of the
	// door (RFC 9113, section 3.1, has taken this upgrade back).
	if asksForH2C(r.Header["Upgrade"]) {
		r.Header.Del("Upgrade")
		r.Header.Del("Http2-Settings")
	}
	// With Content-Length beside Transfer-Encoding the connection must be closed
	// behind the answer (RFC 9112, section 6.1): whoever is between the client and
	// us may have seen another end. net/http drops Content-Length then and does not
	// say so, so it is done for all that come in chunks. So must it be with
	// Transfer-Encoding in HTTP/1.0, which net/http drops as well: for all of HTTP/1.0.
	if r.ProtoMajor == 1 && (len(r.TransferEncoding) > 0 || r.ProtoMinor == 0) {
		w.Header().Set("Connection", "close")
	}
	return nil
}

func asksForH2C(upgrade []string) bool {
	for protocol := range items(upgrade) {
		if strings.EqualFold(protocol, "h2c") {
			return true
		}
	}
	return false
}
