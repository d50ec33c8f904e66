package news

import (
	"errors"
	"time"
)

// ErrNotAllowed is something that the rules do not let this user do. The
// error that wraps it is a *Refusal, whose sentence is for him.
var ErrNotAllowed = errors.New("not allowed")

// Refusal says why, in a sentence for the user.
type Refusal struct{ Why string }

func (r *Refusal) Error() string        { return r.Why }
func (r *Refusal) Is(target error) bool { return target == ErrNotAllowed }

func refuse(why string) error { return &Refusal{why} }

// Karma that opens a right, and time that closes one. Hacker News has the
// same numbers.
const (
	KarmaToFlag     = 30
	KarmaToDownvote = 500
	TimeToEdit      = 2 * time.Hour
	// FlagsToKill is how many flags make an item dead.
	FlagsToKill = 5
)

// MayEdit says whether a user may change or delete an item now; nil when he may.
func (u User) MayEdit(it Item, now time.Time) error {
	switch {
	case it.State == Deleted:
		return refuse("This has been deleted.")
	case u.Moderator:
		return nil
	case it.By != u.Name:
		return refuse("Only its author may change this.")
	case it.ID < FirstOwnID:
		return refuse("Items of the simulator stay as they came.")
	case it.State == Dead:
		return refuse("This is dead and stays as it is.")
	case now.Sub(it.At) > TimeToEdit:
		return refuse("This is older than two hours and stays as it is.")
	}
	return nil
}

// MayVote says whether a user may vote an item up (+1), down (-1), or take
// his vote back (0).
func (u User) MayVote(it Item, value int) error {
	switch {
	case value < -1 || value > 1:
		return refuse("A vote is up or down.")
	case it.State != Alive && value != 0:
		return refuse("This can no longer be voted on.")
	case it.By == u.Name && it.Kind != PollOption:
		return refuse("You cannot vote on what you posted.")
	case it.Kind == Job:
		return refuse("Jobs are not voted on.")
	case value < 0 && it.Kind != Comment:
		return refuse("Only comments can be voted down.")
	case value < 0 && u.Karma < KarmaToDownvote:
		return refuse("Voting down takes 500 karma.")
	}
	return nil
}

// MayFlag says whether a user may flag an item.
func (u User) MayFlag(it Item) error {
	switch {
	case it.State == Deleted:
		return refuse("This has been deleted.")
	case it.By == u.Name:
		return refuse("You cannot flag what you posted.")
	case u.Karma < KarmaToFlag && !u.Moderator:
		return refuse("Flagging takes 30 karma.")
	}
	return nil
}

// MayReply says whether something may be answered.
func MayReply(to Item) error {
	switch {
	case to.State != Alive:
		return refuse("This can no longer be answered.")
	case to.Kind == PollOption:
		return refuse("Answer the poll, not one of its options.")
	}
	return nil
}

// Pace is how much somebody may post in the hour.
type Pace struct{ Heads, Comments int }

// PaceOf gives new users less, so that a robot's first hour does little harm.
func (u User) PaceOf(now time.Time) Pace {
	if u.Moderator {
		return Pace{1000, 1000}
	}
	if now.Sub(u.Joined) < 24*time.Hour && u.Karma < 10 {
		return Pace{Heads: 2, Comments: 10}
	}
	return Pace{Heads: 20, Comments: 100}
}
