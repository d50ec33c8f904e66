// Package httpcache is a shared HTTP cache: RFC 9111 as pure functions, a store
// that is bounded in bytes, and the collapsing of requests for the same.
//
// Always:
//   - An answer goes from one request to another only where RFC 9111 lets a
//     shared cache do that; with cookies or Set-Cookie only where it says public.
//   - An object whose request was sent before a hard invalidation of its key or
//     of one of its tags is never served after Invalidate has returned, whether it
//     was stored by then, under way, or stale and wanted because of overload.
//   - Of the requests that miss on one key at a time, one leads; no follower
//     waits for a leader longer than until the head of its answer, and none fails
//     because the leader did before that.
//   - What is stored stays within Config.Bytes, give or take what the store evicts
//     in the background; one flight holds at most Config.Object bytes. A second tier
//     on disk has a bound of its own, and outlives the process (OpenDisk).
//   - Keys, headers and bytes that were handed in are not changed and not kept.
//
// Safe for concurrent use. It does not know net/http, sends nothing, starts no
// goroutine that waits but the one that writes to disk, and knows of clients only that they may leave: what a
// flight's Reader does not read, nobody misses.
//
// One request, as its owner writes it:
//
//	found := cache.Lookup(&r, policy)
//	found, err := cache.Follow(ctx, &r, policy, found) // returns at once unless the verdict is Wait
//	switch found.Verdict {
//	case httpcache.Hit, httpcache.Stale: // Stale: carry out found.Flight, if any, in the background
//		a := cache.Answer(&r, found.Object)
//		…
//	case httpcache.Refuse: // 504 (only-if-cached)
//	case httpcache.Pass: // send as it came; then cache.Answered
//	case httpcache.Fetch:
//		defer found.Flight.Done()
//		found.Flight.Prepare(header) // of the request to send
//		… wait for a slot; refused or unreachable: found.Flight.Instead(why) …
//		found.Flight.Sent()          // just before it is sent
//		got := found.Flight.Receive(status, header)
//		…                            // Keep: Write every byte, then End
//	}
package httpcache
