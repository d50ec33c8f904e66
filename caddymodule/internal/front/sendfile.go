package front

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Files are those that applications may hand over by name, instead of reading them
// to us: in X-Sendfile (Apache's and lighttpd's word) the file as the application
// calls it, in X-Accel-Redirect (nginx's word) a path below the root. Safe for
// concurrent use.
type Files struct {
	dir  string
	root *os.Root // nothing outside is reached, by no link either
}

// OpenFiles opens the folder that files may come from.
func OpenFiles(dir string) (*Files, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("front: sendfile: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("front: sendfile: %w", err)
	}
	return &Files{dir, root}, nil
}

// Close ends it. Files that are open stay so.
func (f *Files) Close() error { return f.root.Close() }

// errHandedOver: the application names a file that it must not, or that is none.
var errHandedOver = errors.New("front: the file that the application hands over cannot be sent")

// open opens the file that an answer names; nil: it names none.
func (f *Files) open(sendfile, redirect string) (*os.File, fs.FileInfo, error) {
	if f == nil || sendfile == "" && redirect == "" {
		return nil, nil, nil
	}
	name, err := f.name(sendfile, redirect)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errHandedOver, err)
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errHandedOver, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", name)
	}
	if err != nil {
		file.Close()
		return nil, nil, fmt.Errorf("%w: %w", errHandedOver, err)
	}
	return file, info, nil
}

// name is the file's name below the root.
func (f *Files) name(sendfile, redirect string) (string, error) {
	if sendfile == "" {
		target, _, _ := strings.Cut(redirect, "?")
		decoded, err := url.PathUnescape(target)
		if err != nil {
			return "", err
		}
		return strings.TrimPrefix(path.Clean("/"+decoded), "/"), nil
	}
	if !filepath.IsAbs(sendfile) {
		return filepath.Clean(sendfile), nil
	}
	return filepath.Rel(f.dir, sendfile)
}

// handsOver reports whether a field hands a file over, or concerns the body that
// stands in for it.
func handsOver(name string) bool {
	switch name {
	case "X-Sendfile", "X-Accel-Redirect", "Content-Length", "Etag", "Accept-Ranges":
		return true
	}
	return false
}

// sendFile answers with a file, and parts of it, and not if the client has it
// already (RFC 9110, sections 13 and 14). The application is free by now.
func (x *exchange) sendFile(w http.ResponseWriter, r *http.Request, file *os.File, info fs.FileInfo) error {
	defer file.Close()
	if x.Status != http.StatusOK { // an error page, perhaps
		w.WriteHeader(x.Status)
		io.Copy(w, file)
		return nil
	}
	http.ServeContent(w, r, info.Name(), info.ModTime(), file)
	return nil
}
