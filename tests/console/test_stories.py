"""What people do in the console, in a real browser: ask, decide, extend, end, and what must not happen meanwhile."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import pytest
from selenium.webdriver.common.keys import Keys

from tests.console.desk import PHONE, WIDE, Desk, Window


def test_a_request_is_asked_for_approved_extended_and_revoked_and_each_check_follows(
    desk: Desk, window: Window, other: Window
) -> None:
    alice, bob = window.be("alice", "/ask"), other.be("bob")

    alice.write("What for", "Write the wiki")
    alice.write("On which resources", "wiki/plans")
    alice.write("Why", "The plan has a wrong date")
    assert alice.sees("It waits for 1 decision.", "aside")
    assert alice.sees("anyone of database-owners", "aside")
    alice.press("Ask", "main form")
    assert alice.sees("Pending")
    assert not desk.allows("wiki/plans")

    bob.choose("wiki/plans")
    assert bob.sees("The plan has a wrong date", ".detail")
    bob.key("a")
    bob.write("Comment", "Good catch")
    bob.press("Approve", "dialog")
    assert alice.sees("Active")
    assert desk.allows("wiki/plans")

    alice.press("Extend")
    alice.write("How much more", "20 min")
    alice.write("Why", "Two more dates")
    alice.press("Ask", "dialog")
    bob.choose("20 min")
    assert bob.sees("asks for more time")
    bob.press("Approve")
    bob.press("Approve", "dialog")
    assert alice.sees("50 min")

    bob.go(alice.browser.current_url.partition("/console")[2])
    bob.sees("Active")
    bob.press("Revoke")
    bob.write("Why", "The plan is frozen")
    bob.press("Revoke", "dialog")
    assert alice.sees("Revoked")
    assert alice.sees("The plan is frozen")
    assert not desk.allows("wiki/plans")
    assert alice.complaints() == []


def test_what_changed_while_it_was_looked_at_is_not_approved_blind(desk: Desk, window: Window) -> None:
    grant = desk.asks("alice", "two-approvals", "vault/one")
    bob = window.be("bob", f"/{grant['name']}")
    bob.press("Approve")
    bob.sees("After yours it needs 1 more approval", "dialog")

    desk.call("carol", "POST", f"{grant['name']}:approve", {"comment": "first"})

    assert bob.sees("It was changed while you looked at it")
    assert bob.find("dialog[open]") is None
    assert not desk.allows("vault/one")
    bob.press("Show it as it is now")
    bob.sees("Yours is the last approval needed")
    bob.press("Approve")
    bob.press("Approve", "dialog")
    assert bob.sees("Active")
    assert desk.allows("vault/one")


def test_two_approvers_at_once_and_the_second_sees_what_the_first_has_done(
    desk: Desk, window: Window, other: Window
) -> None:
    desk.asks("alice", "two-approvals", "vault/two")
    bob, carol = window.be("bob"), other.be("carol")
    for one in (bob, carol):
        one.choose("vault/two")
        assert one.sees("After yours it needs 1 more approval: Owners and security, anyone of", ".detail")
        one.press("Approve")
        one.sees("After yours it needs 1 more approval", "dialog")

    bob.press("Approve", "dialog")

    assert carol.sees("bob@example.com decided: approved", ".detail")
    assert carol.find("dialog[open]") is None
    assert not desk.allows("vault/two")
    carol.press("Show it as it is now")
    assert carol.sees("the access would be active at once, until", ".detail")
    carol.press("Approve")
    carol.press("Approve", "dialog")
    carol.wait_for(lambda: desk.allows("vault/two"))


def test_a_policy_that_asks_for_a_stronger_log_in_sends_its_approver_to_the_provider(
    desk: Desk, window: Window
) -> None:
    grant = desk.asks("alice", "stronger", "safe/gold")
    bob = window.be("bob", f"/{grant['name']}")
    assert bob.sees("REVIEW_ASSURANCE_REQUIRED")

    bob.press("Log in as it asks")
    bob.wait_for(lambda: "/dev/oidc/" in bob.browser.current_url)
    bob.wait_for(lambda: bob.find("button[value='confirm']")).click()
    assert bob.sees("the access would be active at once, until")
    bob.press("Approve")
    bob.press("Approve", "dialog")

    assert bob.sees("Active")
    assert bob.sees("urn:jitaccess:dev:confirmed", ".happenings")
    assert desk.allows("safe/gold")


def test_who_may_not_decide_reads_why(desk: Desk, window: Window) -> None:
    grant = desk.asks("alice", "wiki-write", "wiki/not-mine")

    carol = window.be("admin", f"/{grant['name']}")

    assert carol.sees("You may not decide: user:admin@example.com is not an approver of policies/wiki-write")


def test_more_time_is_offered_only_where_the_policy_gives_any(desk: Desk, window: Window) -> None:
    for policy, resource in (("wiki-write", "wiki/more"), ("no-more", "fixed/one")):
        desk.call("bob", "POST", f"{desk.asks('alice', policy, resource)['name']}:approve", {})
    alice = window.be("alice", "/mine")

    alice.wait_for(lambda: "Extend" in _card(alice, "wiki/more"))
    assert "Give back" in _card(alice, "fixed/one")
    assert "Extend" not in _card(alice, "fixed/one")


def _card(window: Window, words: str) -> str:
    return next((text for text in window.texts(".card") if words in text), "")


def test_logging_out_ends_the_providers_session_too(desk: Desk, window: Window) -> None:
    alice = window.be("alice", "/mine")

    alice.press("Log out", "header")
    alice.wait_for(lambda: alice.browser.current_url == f"{desk.url}/console/")
    alice.press("Log in")

    assert alice.wait_for(lambda: alice.find("button[value='bob']"))


def test_a_session_goes_on_silently_and_ends_with_words_where_it_cannot(desk_of_its_own: Desk) -> None:
    desk, window = desk_of_its_own, desk_of_its_own.window()
    alice = window.be("alice", "/mine")

    desk.service.clock.advance(timedelta(minutes=11))
    alice.follow("Ask")
    alice.sees("What for")
    assert alice.find("dialog[open]") is None

    desk.service.clock.advance(timedelta(days=3))
    alice.follow("My access")
    assert alice.sees("Your session is over", "dialog")

    desk.service.clock.advance(-timedelta(days=3, minutes=11))
    alice.press("Log in", "dialog")
    alice.wait_for(lambda: alice.find("header.top") or alice.find("button[value='alice']"))
    if (again := alice.find("button[value='alice']")) is not None:
        again.click()
    alice.wait_for(lambda: alice.find("header.top"))
    assert alice.browser.current_url.endswith("/console/mine")
    window.close()


def test_a_log_in_that_was_not_begun_here_is_refused(desk: Desk, window: Window) -> None:
    window.forget_cookies()
    window.open("/callback?code=stolen&state=theirs")

    assert window.sees("This log-in was not begun in this window")
    assert "stolen" not in window.browser.current_url


def test_no_token_is_in_any_storage(desk: Desk, window: Window) -> None:
    alice = window.be("alice")

    kept = alice.script("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")

    assert "eyJ" not in kept
    assert "jit-console-login" not in kept


HOSTILE = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>&lt;b&gt; שלום '


def test_a_hostile_justification_is_shown_as_the_text_that_it_is(desk: Desk, window: Window) -> None:
    text = HOSTILE + "w" * (4096 - len(HOSTILE))
    grant = desk.asks("alice", "two-approvals", "vault/hostile", text=text)
    carol = window.be("carol", f"/{grant['name']}")
    carol.resize(PHONE)

    assert carol.sees("<img src=x onerror=")
    assert carol.sees("</script>&lt;b&gt;")
    assert carol.find("main img, main script") is None
    assert "owned" not in carol.browser.title
    assert not carol.is_wider_than_the_window()
    carol.resize(WIDE)
    desk.call("alice", "POST", f"{grant['name']}:withdraw", {})


def test_a_justification_that_would_turn_text_round_is_refused_where_it_is_written(desk: Desk, window: Window) -> None:
    alice = window.be("alice", "/ask?policy=wiki-write&resource=wiki/plans")

    alice.sees("What for")
    alice.paste("Why", "harmless \u202efdp.exe")

    assert alice.sees("holds the bidirectional control U+202E", "form .wrong")


def test_everything_is_decided_by_keys_and_the_focus_comes_back(desk: Desk, window: Window) -> None:
    first, second = (desk.asks("alice", "wiki-write", f"wiki/{page}", text="Keys") for page in ("k1", "k2"))
    bob = window.be("bob")
    bob.sees("wiki/k2", ".items")

    for key in "jjjkkk":
        bob.key(key)
    assert bob.text(".item[aria-current]") == bob.text(".items li:first-child")
    while "wiki/k1" not in bob.text(".item[aria-current]"):
        bob.key("j")
    before = bob.browser.switch_to.active_element
    bob.key("?")
    assert bob.sees("Next request", "dialog")
    bob.key(Keys.ESCAPE)
    bob.wait_for(lambda: bob.find("dialog[open]") is None)
    assert bob.browser.switch_to.active_element == before
    bob.key("d")
    bob.write("Comment", "Not now")
    bob.key(Keys.TAB)
    bob.key(Keys.ENTER)
    bob.wait_for(lambda: "wiki/k1" not in bob.text(".items"))

    assert desk.call("bob", "GET", first["name"])["state"] == "DENIED"
    assert desk.call("bob", "GET", second["name"])["state"] == "PENDING"


def test_an_admin_sets_a_signal_locks_somebody_out_tries_a_policy_and_verifies_the_log(
    desk: Desk, window: Window
) -> None:
    admin = window.be("admin", "/signals")
    admin.write("Name", "maintenance")
    admin.press("Set")
    assert admin.sees("set by admin@example.com", ".cards")

    admin.follow("Locks")
    admin.write("Name", "user:mallory@example.com")
    admin.write("Why", "Left the company")
    admin.press("Lock")
    assert admin.sees("Left the company", ".cards")
    admin.press("Unlock mallory@example.com")
    assert admin.sees("Nobody is locked.")

    admin.go("/policies/wiki-write")
    admin.write("Resource", "wiki/plans")
    admin.press("Test")
    assert admin.sees("Pending, by step 1", ".notice")

    admin.follow("Policies")
    admin.press("Simulate")
    assert admin.sees("would change.", ".notice")

    admin.follow("Audit")
    admin.press("Policies")
    assert admin.sees("Policy created", "table")
    admin.press("Verify")
    assert admin.sees("records are as they were written.")
    assert admin.complaints() == []


def test_the_overview_shows_who_holds_what_how_much_is_asked_and_why_not(desk: Desk, window: Window) -> None:
    held = desk.asks("alice", "wiki-write", "wiki/overview")
    desk.call("bob", "POST", f"{held['name']}:approve", {})
    desk.call("bob", "POST", f"{desk.asks('alice', 'wiki-write', 'wiki/no')['name']}:deny", {"comment": "no"})
    assert not desk.allows("wiki/overview", "rows.delete")

    admin = window.be("admin", "/overview")

    assert admin.sees("read on wiki/overview, 30 min", ".holders")
    charts = [chart.get_attribute("aria-label") for chart in admin.browser.find_elements("css selector", ".days")]
    assert [chart.partition(":")[0] for chart in charts] == ["Requests by day", "Median time to decision by day"]
    reasons = " ".join(admin.texts(".holders"))
    assert "Denied by a reviewer" in reasons
    assert "No grant" in reasons
    admin.browser.find_element("link text", "No grant").click()
    assert admin.sees("rows.delete", "table")


def test_an_approver_sees_what_the_person_has_and_what_others_got_lately(desk: Desk, window: Window) -> None:
    hers = desk.asks("alice", "two-approvals", "vault/hers")
    for who in ("bob", "carol"):
        desk.call(who, "POST", f"{hers['name']}:approve", {})
    desk.call("carol", "POST", f"{desk.asks('bob', 'two-approvals', 'vault/his')['name']}:deny", {"comment": "no"})
    desk.asks("alice", "two-approvals", "vault/asked")
    carol = window.be("carol")
    carol.choose("vault/asked")

    assert carol.sees("What others got under this policy lately", ".detail")
    carol.wait_for(lambda: len(carol.texts(".detail .short")) == 2)
    already, lately = carol.texts(".detail .short")
    assert "read on vault/hers" in already
    assert "bob@example.com: read on vault/his" in lately
    assert "alice" not in lately


@pytest.mark.parametrize("path", ["/grants", "/audit"])
def test_a_table_is_read_on_a_phone_without_scrolling_sideways(desk: Desk, window: Window, path: str) -> None:
    desk.asks("alice", "wiki-write", "wiki/phone")
    admin = window.be("admin", path)
    admin.resize(PHONE)

    assert admin.sees("wiki/phone", "table")
    assert admin.script("const t = document.querySelector('.scroll'); return t.scrollWidth <= t.clientWidth")
    admin.resize(WIDE)


def test_a_policy_says_how_its_approvers_must_have_logged_in(desk: Desk, window: Window) -> None:
    bob = window.be("bob", "/policies/stronger")

    assert bob.sees("Approvers log in")
    assert bob.texts("[aria-label='What the log-in must be'] li") == [
        "with acr urn:jitaccess:dev:confirmed",
        "within the last 5 min",
    ]


def test_an_auditor_reads_how_each_reviewer_had_logged_in(desk: Desk, window: Window) -> None:
    grant = desk.asks("alice", "no-more", "fixed/log-in")
    bob = window.be("bob", f"/{grant['name']}")
    bob.press("Approve")
    bob.press("Approve", "dialog")
    bob.sees("Active")

    admin = window.be("admin", "/audit?filter=" + quote(f'grant = "{grant["name"]}"'))

    assert admin.sees("urn:jitaccess:dev:picked", "table")


def test_a_delegate_decides_in_somebodys_place(desk: Desk, window: Window) -> None:
    bob = window.be("bob", "/delegations")
    bob.write("Who", "user:dave@example.com")
    bob.press("Delegate")
    assert bob.sees("decides for bob@example.com", ".cards")

    grant = desk.asks("alice", "wiki-write", "wiki/delegated")
    approved = desk.call("dave", "POST", f"{grant['name']}:approve", {})
    assert approved["state"] == "ACTIVE"
    bob.press("Take it back from dave@example.com")
    assert bob.sees("Does not count now", ".cards")


def test_other_terms_are_offered_and_taken(desk: Desk, window: Window) -> None:
    grant = desk.asks("alice", "wiki-write", "wiki/offer")
    bob = window.be("bob", f"/{grant['name']}")
    bob.press("Give less")
    bob.write("Shorter", "10 min")
    bob.write("Comment", "Ten minutes are enough")
    bob.press("Offer this instead")
    assert bob.sees("offers 10 min")

    alice = window.be("alice", "/mine")
    alice.press("Accept the offer")
    alice.press("Accept the offer", "dialog")
    assert alice.sees("left of 10 min")


PAGES = ["Inbox", "My access", "Ask", "All grants", "Reviews owed", "Policies", "Delegations"]
STEERING = ["Overview", "Audit", "Signals", "Locks"]


# What is narrow does not depend on what is dark, so each is looked at once.
@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (WIDE, False)], ids=["narrow and dark", "wide and light"])
def test_axe_finds_nothing_on_any_page(desk: Desk, window: Window, other: Window, width: int, dark: bool) -> None:
    grant = desk.asks("alice", "wiki-write", f"wiki/axe-{width}-{dark}")
    found: dict[str, list[str]] = {}

    bob = window.be("bob")
    bob.resize(width, dark=dark)
    for title in PAGES:
        bob.follow(title)
        found[title] = bob.findings()
    bob.go(f"/{grant['name']}")
    bob.sees("What happened")
    found["One grant"] = bob.findings()
    bob.press("Deny")
    found["A dialog"] = bob.findings()
    bob.press("Cancel")
    admin = other.be("admin")
    admin.resize(width, dark=dark)
    for title in STEERING:
        admin.follow(title)
        found[title] = admin.findings()
    admin.go("/policies/wiki-write")
    admin.sees("Test a question")
    found["One policy"] = admin.findings()

    assert {title: each for title, each in found.items() if each} == {}
