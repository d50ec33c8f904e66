package httpcache

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// requirement is a MUST or a SHOULD, or its NOT, that concerns a shared cache; in
// our own words.
type requirement struct {
	section string // of RFC 9111, unless it names another
	level   string
	says    string
	rows    []string           // of reuses, by their rule
	tests   []func(*testing.T) // others that hold it
}

func rows(rules ...string) []string                   { return rules }
func in(tests ...func(*testing.T)) []func(*testing.T) { return tests }

// requirements are all that can be seen from outside. Left out is what senders must
// not write (5.2.1.1 and others: quoted numbers), caches without a clock (4), and
// what the HTTP implementation in front of the leaf does (9110 7.6.1, 9112).
var requirements = []requirement{
	{"1.2.2", "MUST", "take a number of seconds that is too large, and a sum, for as large as can be",
		rows("a time too large is as large as can be", "an age too large as well", "even both", "a Date before all time is an age as large as can be",
			"a time since the last change too large to be multiplied", "an end of time is later than now"), in(TestDateBeforeAllTimeIsNotFreshForever)},

	{"3", "MUST NOT", "store the answer to a method that is not understood", nil, in(TestOnlyGetIsStored, TestHeadDoesNotAnswerGet)},
	{"3", "MUST NOT", "store an answer that is not final", nil, in(TestOnlyFinalAnswersAreStored)},
	{"3", "MUST NOT", "store 206, 304 and must-understand with a status that is not understood",
		rows("must-understand with an unknown status is not stored", "not where the status is unknown"), in(TestOnlyFinalAnswersAreStored, TestPartThatIsNotWhatItSaysIsNotStored)},
	{"3", "MUST NOT", "store an answer with no-store", rows("no-store is not stored"), nil},
	{"3", "MUST NOT", "store an answer with private", rows("private is not for a shared cache"), nil},
	{"3", "MUST NOT", "store the answer to Authorization", rows("an answer to Authorization is not shared"), nil},
	{"3", "MUST NOT", "store what nothing makes cacheable",
		rows("a final status with explicit freshness may be stored", "without any of the permissions nothing is stored", "public is a permission", "Expires is a permission",
			"s-maxage is a permission", "max-age is a permission", "a cacheable status may be stored by heuristic", "other statuses may not"), in(TestStatusesWithAHeuristic)},
	{"3.1", "MUST", "store all fields, those too that nobody knows", nil, in(TestFieldsThatNobodyKnowsAreKept)},
	{"3.1", "MUST NOT", "store the fields of one connection or of a proxy", nil, in(TestFieldsOfOneConnectionAreNotStored)},
	{"3.1", "MUST NOT", "mix trailers with the header", nil, in(TestTrailersAreKeptApart)},
	{"3.2", "MUST", "update each stored field, but for those of the body", nil, in(TestUpdateReplacesFieldsAndNothingElse, TestNotModifiedMakesTheStoredAnswerFresh)},
	{"3.2", "SHOULD", "leave out no more than the stored bytes depend on", nil, in(TestUpdateReplacesFieldsAndNothingElse)},
	{"3.3", "MUST NOT", "store parts in a unit that is not understood", nil, in(TestPartThatIsNotWhatItSaysIsNotStored)},
	{"3.3", "MUST NOT", "answer with what is incomplete, but for a range within it", nil, in(TestPartIsNotTheWhole, TestIncompleteAnswerIsNotStored, TestPartsAreStoredAndCombined)},
	{"3.3", "MUST NOT", "send a part but as 206", nil, in(TestPartsAreStoredAndCombined, TestRangesAreAnsweredFromAStoredWhole)},
	{"3.4", "MUST", "combine parts with the same strong validator only", nil, in(TestPartsOfDifferentAnswersAreNotCombined)},
	{"3.4", "MUST", "update the fields of what is combined", nil, in(TestCombinedPartsHaveTheNewerFields)},
	{"3.5", "MUST NOT", "share the answer to Authorization without a directive that lets it, or against that directive",
		rows("an answer to Authorization is not shared", "public lets it", "s-maxage lets it", "must-revalidate lets it", "proxy-revalidate does not", "and what lets it is followed"), nil},

	{"4", "MUST NOT", "reuse for another target", nil, in(TestOtherTargetsAreNotAnswered, TestDifferentTargetsNeverShareAKey)},
	{"4", "MUST NOT", "reuse for a method that it is not for", nil, in(TestHeadDoesNotAnswerGet, TestHeadIsAnsweredFromGet, TestOnlyGetIsStored)},
	{"4", "MUST NOT", "reuse no-cache without validation", rows("no-cache in the answer asks each time"), nil},
	{"4", "MUST NOT", "reuse what is not fresh, or may be stale, or was validated", rows("not any longer", "a stale answer is not used without being allowed"), in(TestStaleNeedsAPermission)},
	{"4", "MUST", "put its age into Age, in place of any other", nil, in(TestStoredAnswerHasTheAgeItHas)},
	{"4", "MUST", "write unsafe requests through", nil, in(TestUnsafeRequestsAreWrittenThrough)},
	{"4", "MUST", "choose the latest of several by Date", nil, in(TestLatestDateIsChosen)},
	{"4.1", "MUST NOT", "reuse where the fields that Vary names do not match",
		rows("the same selecting fields match", "other values do not", "an absent field matches an absent field only", "an absent field is not an empty one", "all fields count, on all lines",
			"Vary: * never matches", "nor among others", "lines may be combined", "of what is accepted", "weights keep it apart", "their order does"), nil},
	{"4.1", "SHOULD", "choose what has Vary before what has none", nil, in(TestAnswerThatVariesGoesFirst, TestReaderDoesNotGoBackInTime)},
	{"4.2", "SHOULD", "read dates in whatever case", rows("the case of a date does not count"), in(TestDatesInThreeForms)},
	{"4.2", "MUST", "not round an Expires up", rows("Expires counts from Date", "Expires ends"), nil},
	{"4.2", "MUST NOT", "let the local time zone count", nil, in(TestLocalTimeChangesNoDate)},
	{"4.2", "SHOULD", "take a zone other than GMT for no date", rows("a zone other than GMT is no date"), in(TestDatesInThreeForms)},
	{"4.2.1", "SHOULD", "take the first of two times, or none", rows("two times that differ are stale", "two Expires that differ are stale", "a time that is not a number is stale"), nil},
	{"4.2.2", "MUST NOT", "use a heuristic beside an explicit time", rows("no heuristic where there is an explicit time"), in(TestStatusesWithAHeuristic)},
	{"4.2.3", "MUST", "count the age from when the request was sent", rows("Age counts", "an old Date counts"), in(TestDelayOnTheWayCountsAsAge)},
	{"4.2.4", "MUST NOT", "serve stale what forbids it", rows("not where s-maxage forbids it"), in(TestStaleIsNeverServedWhereForbidden)},
	{"4.2.4", "MUST NOT", "serve stale what does not allow it, but when cut off", rows("a stale answer is not used without being allowed"), in(TestStaleNeedsAPermission)},
	{"4.3.1", "MUST", "ask with the stored tag", nil, in(TestQuestionHasTheValidatorsThatThereAre)},
	{"4.3.1", "SHOULD", "ask with the stored date", nil, in(TestQuestionHasTheValidatorsThatThereAre)},
	{"4.3.2", "SHOULD", "evaluate conditions on what is stored", nil, in(TestClientsConditionsAreAnsweredFromTheStore)},
	{"4.3.2", "MUST NOT", "evaluate those that are for the application, or on what is not stored", nil,
		in(TestConditionsForTheApplicationGoThere, TestUnsafeRequestsAreWrittenThrough, TestConditionsWhereNothingIsStored)}, // differs
	{"4.3.2", "SHOULD", "compare If-Modified-Since with Date where there is no Last-Modified", nil, in(TestClientsConditionsAreAnsweredFromTheStore)},
	{"4.3.2", "MUST NOT", "put the tag of a part into what a client asks", nil, in(TestPartIsNotTheWhole)},
	{"4.3.2", "MUST", "answer 200 where the 304 is not about what the client has", nil, in(TestOwnAnswerToAClientThatHasAnother)},
	{"4.3.3", "MUST", "give a full answer to who asked", nil, in(TestFullAnswerReplacesTheStoredOne, TestServerErrorIsForwardedUnlessStaleMayStandIn)},
	{"4.3.4", "MUST NOT", "update by a 304 with another strong validator", nil, in(TestNotModifiedIsBelievedByItsValidator, TestNotModifiedOfSomethingElseIsNotBelieved)}, // differs
	{"4.3.4", "MUST", "update all that it is about", nil, in(TestAllThatMatchAreUpdated, TestNotModifiedMakesTheStoredAnswerFresh)},
	{"4.3.5", "SHOULD", "let HEAD update what it agrees with, and doubt the rest", nil, in(TestHeadFreshensOrDoubts, TestAllThatMatchAreUpdated)},
	{"4.3.5", "MUST", "update with the fields of HEAD", nil, in(TestHeadFreshensOrDoubts)},
	{"4.4", "MUST", "invalidate the target after an unsafe success", nil, in(TestUnsafeMethodsInvalidate)},
	{"4.4", "MUST NOT", "invalidate at another origin", nil, in(TestOtherOriginsAreNotInvalidated, TestUnsafeMethodsInvalidate)},

	{"5.1", "SHOULD", "take the first of several ages", rows("the first of several Ages counts", "the first of several lines as well"), nil},
	{"5.1", "SHOULD", "ignore an age that is none", rows("an Age that is no number is ignored"), nil},
	{"5.2", "MUST", "pass all directives on", nil, in(TestDirectivesArePassedOn)},
	{"5.2", "SHOULD", "read names in whatever case, and both forms of arguments", rows("names are case-insensitive", "arguments may be quoted", "a directive within a string is none"), in(TestCacheControl)},
	{"5.2.1.1", "MAY", "follow max-age of a request", rows("max-age wants none older", "younger ones will do"), nil},
	{"5.2.1.2", "MAY", "follow max-stale", rows("max-stale takes stale ones", "up to its time", "without a time any"), nil},
	{"5.2.1.3", "MAY", "follow min-fresh", rows("min-fresh wants it to last", "what lasts is given"), nil},
	{"5.2.1.4", "MAY", "follow no-cache of a request", rows("no-cache asks the application"), in(TestNewestIsWantedNewerThanWhatStreams)},
	{"5.2.1.5", "MUST NOT", "store anything of a request with no-store", rows("no-store in the request: neither stored", "what is stored already may answer it"), nil},
	{"5.2.1.6", "MAY", "follow no-transform of a request", nil, in(TestClientMayWantNothingChanged)},
	{"5.2.1.7", "SHOULD", "answer only-if-cached from the store or with 504", nil, in(TestOnlyIfCachedIsNotSentOn)},
	{"5.2.2.1", "MUST", "obey max-age", rows("fresh until max-age", "not any longer"), nil},
	{"5.2.2.2", "MUST NOT", "serve must-revalidate stale",
		rows("not where must-revalidate forbids it", "must-revalidate: nor for a client that would take it", "fresh it is as good as others"), in(TestStaleIsNeverServedWhereForbidden)},
	{"5.2.2.2", "MUST", "answer with an error when cut off", nil, in(TestStaleIsNeverServedWhereForbidden)},
	{"5.2.2.3", "SHOULD", "ignore no-store beside must-understand where the status is understood",
		rows("must-understand overrides no-store where the status is understood", "an unknown status without it is"), nil},
	{"5.2.2.4", "MUST NOT", "reuse no-cache without validation, nor the fields that it names",
		rows("no-cache in the answer asks each time", "no-cache with fields is for those alone"), in(TestFieldsForOneReaderReachHim, TestFieldsOfOneConnectionAreNotStored)},
	{"5.2.2.5", "MUST NOT", "store what has no-store, or give it to others", rows("no-store wins over whatever allows it"), in(TestNoStoreEndsWhatWasStored, TestWhatMayNotBeSharedIsFetchedSideBySide, TestNotModifiedThatIsForOneGoesToNobodyElse)},
	{"5.2.2.6", "MUST NOT", "transform what has no-transform", nil, in(TestSomeAnswersAreNeverCompressed)},
	{"5.2.2.7", "MUST NOT", "store what is private, or the fields that it names",
		rows("private with fields as well", "private without a name in its list is private"), in(TestFieldsForOneReaderReachHim, TestFieldsOfOneConnectionAreNotStored, TestNoStoreEndsWhatWasStored, TestNotModifiedThatIsForOneGoesToNobodyElse)},
	{"5.2.2.8", "MUST NOT", "serve proxy-revalidate stale", rows("nor proxy-revalidate", "proxy-revalidate: nor for a client that would take it"), in(TestStaleIsNeverServedWhereForbidden)},
	{"5.2.2.9", "MAY", "store what is public", rows("public is a permission", "public lets it"), nil},
	{"5.2.2.10", "MUST", "prefer s-maxage", rows("s-maxage is before max-age", "also when it is shorter", "s-maxage is before Expires", "s-maxage is before Expires, also when it is shorter"), nil},
	{"5.2.2.10", "MUST NOT", "serve s-maxage stale", rows("s-maxage alone is not served stale, whoever would take it"), in(TestStaleIsNeverServedWhereForbidden)}, // differs
	{"5.2.3", "MUST", "ignore directives that are not known", rows("unknown directives are ignored", "and change nothing beside them"), nil},
	{"5.3", "MUST", "take a date that is none for the past", rows("an invalid date is the past, above all 0", "or whatever is no date"), nil},
	{"5.3", "MUST", "ignore Expires beside max-age or s-maxage",
		rows("max-age is before Expires", "a shorter max-age as well", "s-maxage is before Expires", "s-maxage is before Expires, also when it is shorter"), nil},
	{"5.4", "MAY", "follow Pragma of old in a request", rows("so does Pragma of old", "but for Cache-Control beside it", "in an answer it means nothing"), nil},
	{"5.5", "MAY", "do without Warning", nil, in(TestWarningIsNotMadeUp, TestFieldsThatNobodyKnowsAreKept)},
	{"7.1", "SHOULD", "not be poisoned", nil, in(TestUnkeyedInputNeitherPoisonsNorIsServed, TestRequestsWithABodyAndUpgradesPass)},
	{"7.3", "SHOULD", "not show one reader's secret to another",
		rows("who is authorized gets nobody else's answer", "who has cookies gets nobody else's answer", "an answer to a request with cookies is not shared", "an answer that sets cookies is not shared"), nil},

	{"5861 3", "SHOULD", "revalidate behind what is served stale", nil, in(TestStaleWhileRevalidateIsRefreshedBehind, TestOneRefreshAtATime)},
	{"5861 3", "SHOULD NOT", "serve it for longer", rows("stale-while-revalidate allows it", "for its time"), nil},
	{"5861 4", "SHOULD NOT", "let stale-if-error stand in for longer, or for another status", nil, in(TestServerErrorIsForwardedUnlessStaleMayStandIn)},

	{"9110 5.6.7", "MUST", "read three forms of dates, and years of two digits", nil, in(TestDatesInThreeForms, TestYearsOfTwoDigitsAreNear)},
	{"9110 6.6.1", "MUST", "add a Date where there is none", nil, in(TestDateIsAddedWhereItIsMissing)},
	{"9110 8.8.3", "MUST", "give another form of the bytes another strong tag", nil, in(TestHitsAreCompressedOncePerCoding)},
	{"9110 9.3.2", "MUST NOT", "send a body to HEAD", nil, in(TestHeadIsAnsweredFromGet)},
	{"9110 13.1.2", "MUST", "compare If-None-Match weakly", nil, in(TestClientsConditionsAreAnsweredFromTheStore)},
	{"9110 13.1.3", "MUST", "ignore If-Modified-Since beside If-None-Match, twice, or that is no date", nil, in(TestClientsConditionsAreAnsweredFromTheStore, TestConditionsAreForWhatIsThere)},
	{"9110 13.1.5", "MUST", "ignore Range where If-Range does not match strongly, and If-Range without Range", nil,
		in(TestIfRangeByDate, TestRangesAreAnsweredFromAStoredWhole, TestConditionsAreForWhatIsThere)},
	{"9110 13.2.1", "MUST", "evaluate no conditions on what is neither 200 nor 206", nil, in(TestConditionsAreForWhatIsThere)},
	{"9110 13.2.2", "MUST", "evaluate If-None-Match first and Range last", nil, in(TestClientsConditionsAreAnsweredFromTheStore, TestRangesAreAnsweredFromAStoredWhole)},
	{"9110 14.2", "MUST", "ignore Range but for GET, and units that are not understood", nil, in(TestRangeIsForGetOfWhatIsThere, TestRangesAreAnsweredFromAStoredWhole)},
	{"9110 14.4", "MUST NOT", "combine by a Content-Range that is not valid", rows("Content-Range in a 200 means nothing"), in(TestPartThatIsNotWhatItSaysIsNotStored)},
	{"9110 14.6", "MUST", "send several parts as multipart, each with its range", nil, in(TestSeveralRangesAreOneMultipart)},
	{"9110 15.3.7", "MUST", "give 206 the fields of 200", nil, in(TestShortAnswersHaveTheFieldsOfTheLong)},
	{"9110 15.4.5", "MUST", "give 304 the fields of 200", nil, in(TestShortAnswersHaveTheFieldsOfTheLong, TestPlainBodyKeepsItsTag)},
	{"9110 15.4.5", "SHOULD NOT", "give 304 the fields of the body", nil, in(TestShortAnswersHaveTheFieldsOfTheLong, TestClientsConditionsAreAnsweredFromTheStore)},
	{"9110 15.5.17", "SHOULD", "say the size in a 416", nil, in(TestRangesAreAnsweredFromAStoredWhole)},

	{"9211 2", "SHOULD", "keep what other caches have said", nil, in(TestCacheStatusTellsWhatHappened)},
	{"9211 2.2", "SHOULD", "say the most specific reason", nil, in(TestCacheStatusTellsWhatHappened)},

	{"9213 2.1", "MUST", "ignore a targeted field that is empty or not valid", rows("an invalid one is ignored", "an empty one as well"), in(TestTargetedFields)},
	{"9213 2.1", "SHOULD NOT", "use a value of the wrong type", rows("a directive of the wrong type is ignored", "a broken number is ignored, not rounded"), in(TestTargetedFields)},
	{"9213 2.2", "MUST", "follow the first targeted field, and neither Cache-Control nor Expires",
		rows("a targeted field takes the place of Cache-Control", "and of Expires", "ours comes first", "one that says nothing known is obeyed"), nil},
	{"9213 2.2", "MUST", "know max-age, must-revalidate, no-store, no-cache and private there", rows("no-store there", "no-cache there", "private there", "must-revalidate there"), nil},
	{"9213 2.2", "SHOULD", "know the other directives there", rows("and the others: stale-while-revalidate"), nil},
	{"9213 2.2", "MUST", "neither follow the fields of others nor hold them back", rows("one for others changes nothing"), in(TestFieldsThatNobodyKnowsAreKept)},
}

// chapters are the sections of the RFCs that require something of a shared cache.
const chapters = `1.2.2 3 3.1 3.2 3.3 3.4 3.5 4 4.1 4.2 4.2.1 4.2.2 4.2.3 4.2.4 4.3.1 4.3.2 4.3.3 4.3.4 4.3.5 4.4
5.1 5.2 5.2.1.1 5.2.1.2 5.2.1.3 5.2.1.4 5.2.1.5 5.2.1.6 5.2.1.7
5.2.2.1 5.2.2.2 5.2.2.3 5.2.2.4 5.2.2.5 5.2.2.6 5.2.2.7 5.2.2.8 5.2.2.9 5.2.2.10 5.2.3 5.3 5.4 5.5 7.1 7.3`

// TestEveryRequirementHasATest: whoever takes a row or a test away, or renames it,
// hears of it.
func TestEveryRequirementHasATest(t *testing.T) {
	rules := make(map[string]int)
	for _, r := range reuses {
		rules[r.rule]++
	}
	held := make(map[string]bool)
	for _, r := range requirements {
		held[r.section] = true
		if len(r.rows)+len(r.tests) == 0 {
			t.Errorf("%s: nothing sees to it that a cache %s %s", r.section, r.level, r.says)
		}
		for _, rule := range r.rows {
			if rules[rule] != 1 {
				t.Errorf("%s: %d rows say %q", r.section, rules[rule], rule)
			}
		}
	}
	for _, section := range strings.Fields(chapters) {
		if !held[section] {
			t.Errorf("%s has no requirement", section)
		}
	}
	for _, r := range reuses {
		if !held[r.section] && !slices.Contains([]string{"ours", "edge 2.2", "8941 3.2"}, r.section) {
			t.Errorf("%q is of section %s, which requires nothing", r.rule, r.section)
		}
	}
}

// TestWhereThisCacheDiffersIsSaid: users read it, not this.
func TestWhereThisCacheDiffersIsSaid(t *testing.T) {
	text, err := os.ReadFile("../../../docs/cache.md")
	if err != nil {
		t.Fatal(err)
	}
	_, differs, _ := strings.Cut(string(text), "## Where it differs from the RFCs")
	for _, section := range []string{"9111, 4.3.2", "9111, 4.3.4", "9111, 5.2.2.10", "9110, 15.3.7", "9211, 2"} {
		if !strings.Contains(differs, section) {
			t.Errorf("docs/cache.md does not say that it differs from %s", section)
		}
	}
}
