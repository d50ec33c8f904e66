package caddymodule

import "slices"

// PoolStatus is what GET /app_proxy/pools says of one pool, for tests, whose
// Caddy has no admin endpoint.
func PoolStatus(name string) (status poolStatus, ok bool) {
	pools.Range(func(key, value any) bool {
		if key == name {
			p := value.(*pool)
			status, ok = statusOf(p.name, p.queue.Stats()), true
		}
		return !ok
	})
	return status, ok
}

// Retiring lists the pools that no config names and that still have requests.
func Retiring() []string {
	retiring.Lock()
	defer retiring.Unlock()
	var names []string
	for name := range retiring.pools {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// RetireIdle does what happens soon after the last request of a pool that no
// config names has gone.
func RetireIdle() {
	retiring.Lock()
	var list []*pool
	for _, p := range retiring.pools {
		list = append(list, p)
	}
	retiring.Unlock()
	for _, p := range list {
		p.retired()
	}
}

// Words are the words of app_proxy that are not reverse_proxy's.
func Words() []string {
	var list []string
	for word := range words {
		list = append(list, word)
	}
	slices.Sort(list)
	return list
}

// Buffered is how many bytes the bodies of this process have in memory.
func Buffered() int64 { return buffers.Used() }

// SetBuffers bounds them anew, and returns a function that takes that back. There
// must be none at the moment.
func SetBuffers(most int64) (undo func()) {
	before := buffers.Max
	buffers.Max = most
	return func() { buffers.Max = before }
}
