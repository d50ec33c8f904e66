package admission

// Overloaded reports whether there is a standing queue: more comes than is done.
func (q *Queue) Overloaded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.standing.on
}

// Crowded reports whether somebody waits for a slot.
func (q *Queue) Crowded() bool {
	return q.crowded.Load()
}
