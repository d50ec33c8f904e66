package news

import (
	"net/url"
	"strconv"
	"time"
)

// A Tag names what a page shows and a change changes. A page that has been kept
// is as good as new until a change has one of its tags:
//
//	HeadTag      an item's line in a list of heads: title, points, replies
//	ThreadTag    everything on the page of a head; of 0, of the replies that wait for one
//	UserTag      what a user has posted, his karma, his words about himself
//	SiteTag      which heads are from a site
//	DayTag       which heads are of a day, and their order
//	ListTag      which items begin a list
//	Everything   is a tag of every page, for what is rare and changes many
//
// A change of an item has the tag of its own line or thread and not those of
// the lists it stands on: their pages have its tag as well. So a list is named
// only by what comes onto it.
type Tag string

// Everything is a tag of every page.
const Everything Tag = "pages"

func HeadTag(id ID) Tag        { return Tag("head-" + strconv.FormatInt(int64(id), 10)) }
func ThreadTag(root ID) Tag    { return Tag("thread-" + strconv.FormatInt(int64(root), 10)) }
func UserTag(name string) Tag  { return Tag("user-" + name) }
func SiteTag(site string) Tag  { return Tag("site-" + url.QueryEscape(site)) }
func DayTag(day time.Time) Tag { return Tag("day-" + day.UTC().Format(time.DateOnly)) }
func ListTag(list string) Tag  { return Tag("list-" + list) }

// Tags are the tags of what shows the item itself.
func (it Item) Tags() []Tag {
	if it.Kind.Heads() {
		return []Tag{HeadTag(it.ID), ThreadTag(it.ID)}
	}
	return []Tag{ThreadTag(it.Root)}
}
