package httpcache

import (
	"testing"
	"time"
)

func TestSlowAnswerDoesNotReplaceANewerOne(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		slow := c.Lookup(&r, Policy{}).Flight
		slow.Receive(200, fields("Cache-Control: max-age=60"))
		time.Sleep(time.Second)
		talk(t, c, Policy{}, get("/", "Cache-Control: no-cache"), ok("new", "Cache-Control: max-age=60"))
		slow.Write([]byte("old"))
		slow.End(nil)
		if x := talk(t, c, Policy{}, r, ok("")); x.body != "new" || !x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestWholeReplacesAPartThatCameMeanwhile(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		r := get("/")
		slow := c.Lookup(&r, Policy{}).Flight
		slow.Receive(200, fields("Cache-Control: max-age=60", "Etag: \"1\""))
		time.Sleep(time.Second)
		talk(t, c, Policy{}, get("/", "Range: bytes=0-4"), part206("01234", "bytes 0-4/10", "Etag: \"1\""))
		slow.Write([]byte(digits))
		slow.End(nil)
		if x := talk(t, c, Policy{}, r, ok("")); x.body != digits || !x.cached() {
			t.Errorf("%+v", x)
		}
	})
}

func TestInvalidVariantsLeaveWithTheNextWrite(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, c *Cache) {
		store := func(foo, tag string) {
			talk(t, c, Policy{}, get("/", "Foo: "+foo), ok("x", "Cache-Control: max-age=60", "Vary: Foo", "Cache-Tag: "+tag))
		}
		store("1", "a")
		store("2", "b")
		c.Invalidate(Key{}, Invalidation{Tag: "a"})
		store("3", "b")
		if e, _ := c.store.entries.GetIfPresent(get("/").Key); len(e.objects) != 2 {
			t.Errorf("%d variants are kept, 2 are valid", len(e.objects))
		}
	})
}
