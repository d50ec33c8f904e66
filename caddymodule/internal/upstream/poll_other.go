//go:build !unix

package upstream

import "errors"

// turns: here nobody writes or reads but by net.
const turns = false

// quiet cannot tell here: a connection that is closed is noticed when it is used.
func quiet(uintptr) bool { return true }

func sendSome(uintptr, []byte) (int, error)       { return 0, errors.ErrUnsupported }
func readSome(uintptr, []byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }
