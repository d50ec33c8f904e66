// Package journal keeps requests on disk until the application has them.
//
// A write that is appended here has been fsynced when Append returns. It is
// sent by its own request first (a Live), and when that takes too long, or
// cannot be done now, the client is told that it was accepted and the journal
// delivers it later, in the order of its lane, as often as it takes.
//
// Always:
//
//   - Append returns only what the disk has confirmed. After a failed write or
//     fsync it never succeeds again until the journal is opened anew, from what
//     is on the disk.
//   - An accepted entry ends in one of two ways: an answer of the application
//     that is 2xx or 3xx, or a dead letter, which an operator retries or drops.
//     Age, bytes, crashes and errors never remove it.
//   - Of one entry, at most one attempt runs. After a crash an attempt whose end
//     is not on disk is made again, with the same key: at least once.
//   - An entry is not sent while one of its lane that was accepted before it
//     arrived has not been delivered. Entries whose requests are in flight side
//     by side have no order.
//   - Order is that of Seq, which is given at the commit. No clock decides it.
//   - Memory does not grow with the entries on disk.
//
// A Journal and a Live are safe for concurrent use. The package does not know
// HTTP: what an answer means is said by Judge, sending is done by a function
// that is handed in.
//
// In use:
//
//	live, err := j.Append(ctx, journal.Write{…}) // ErrFull, ErrFailed, *Repeat, ErrKeyReused
//	if live.Begin() {                            // nothing accepted is ahead
//		go func() {
//			outcome := …send live.Entry()…
//			if live.End(outcome) { …outcome is the client's answer… }
//		}()
//	}
//	…when answer_within has passed, or Begin said no…
//	if live.Accept() { …give the accept answer… }
//
// Of End and Accept exactly one returns true.
package journal
