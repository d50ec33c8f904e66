//go:build !linux

package main

import (
	"context"
	"errors"
)

func generate(context.Context, Load) (*Loaded, error) {
	return nil, errors.New("the generator of the overload lab needs Linux (epoll)")
}
