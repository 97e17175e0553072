"""What auditors and admins do in the console, in a real browser: keep the log, hold it to account, change policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from selenium.webdriver.support.select import Select

from tests.console.desk import Desk, Window


def test_what_the_filter_means_of_the_log_is_exported_in_the_format_that_is_chosen(
    desk: Desk, window: Window, downloads: Path
) -> None:
    grant = desk.asks("alice", "wiki-write", "wiki/exported")["name"]
    desk.call("bob", "POST", f"{grant}:approve", {})
    auditor = window.be("auditor", "/audit?filter=" + quote(f'grant = "{grant}"'))

    auditor.press("Export what matches")
    Select(auditor.wait_for(lambda: auditor.find("main select"))).select_by_visible_text("CloudEvents")
    auditor.press("Export what matches")
    auditor.wait_for((downloads / "audit-cloudevents.ndjson").exists)

    as_it_is, in_envelopes = (_lines(downloads / f"audit-{form}.ndjson") for form in ("jitaccess", "cloudevents"))
    assert [event["eventType"] for event in as_it_is] == ["GRANT_REQUESTED", "GRANT_APPROVED"]
    assert [event["data"] for event in in_envelopes] == as_it_is


def _lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_an_export_that_the_service_refuses_says_why_and_leaves_no_file(
    desk: Desk, window: Window, downloads: Path
) -> None:
    auditor = window.be("auditor", "/audit?filter=" + quote("colour = blue"))

    auditor.press("Export what matches")

    assert auditor.sees("colour", ".actions .notice")
    assert list(downloads.iterdir()) == []


def test_the_log_is_verified_with_a_checkpoint_that_was_kept_before(
    desk: Desk, window: Window, downloads: Path
) -> None:
    auditor = window.be("auditor", "/audit")
    auditor.press("Keep a checkpoint of now")
    auditor.wait_for((downloads / "checkpoint.jwt").exists)
    kept = (downloads / "checkpoint.jwt").read_text()
    desk.asks("alice", "wiki-write", "wiki/after-the-checkpoint")

    _verify(auditor, kept)
    assert auditor.sees("It goes on from your checkpoint, whose signature is good.")

    _verify(auditor, _signed_by_an_earlier_key(kept))
    assert auditor.sees("signature could not be verified: the service does not have its key any more.")

    # A log that was rewritten has another hash there.
    _verify(auditor, _signed_by_an_earlier_key(kept, head_hash="ab" * 32))
    assert auditor.sees("Something was changed at record")

    _verify(auditor, kept[:-8] + "AAAAAAAA")
    assert auditor.sees("checkpoint", "main .panel .notice.bad")


def _verify(window: Window, checkpoint: str) -> None:
    window.paste("Checkpoint", checkpoint)
    window.press("Verify")


def _signed_by_an_earlier_key(checkpoint: str, **changes: str) -> str:
    claims = jwt.decode(checkpoint, options={"verify_signature": False}) | changes
    header = {"kid": "earlier", "typ": jwt.get_unverified_header(checkpoint)["typ"]}
    return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=header)


def _policy(name: str) -> dict[str, Any]:
    return {
        "name": f"policies/{name}",
        "eligible": {"groups": ["engineering"]},
        "resources": [f"{name}/**"],
        "actions": ["read"],
        "maxDuration": "3600s",
    }


def test_what_an_admin_proposes_waits_for_another_admin_and_then_counts(desk: Desk, window: Window) -> None:
    admin = window.be("admin", "/policies")
    admin.paste("Draft", json.dumps([_policy("charts")]))
    admin.press("Apply …")
    assert admin.sees("Creates charts", "dialog")
    assert admin.findings() == []
    admin.write("Why", "The new team needs it")
    admin.press("Apply", "dialog")

    assert admin.sees("Nothing has changed yet: another admin must approve it")
    assert admin.sees("You proposed it, so another admin must approve it.", "section .cards")
    assert "Approve the change" not in admin.texts("button")
    assert admin.findings() == []
    proposals = desk.call("second", "GET", "policyProposals")["policyProposals"]
    proposal = next(each for each in proposals if each["comment"] == "The new team needs it")
    assert proposal["state"] == "PENDING"

    desk.call("second", "POST", f"{proposal['name']}:approve", {"comment": "So it does"})
    admin.open("/policies")
    assert admin.sees("charts", "main > .cards")
    admin.wait_for(lambda: admin.find("main > details summary")).click()
    assert admin.sees("Approved by second@example.com")
    assert admin.sees("So it does")


def test_an_admin_approves_what_another_proposed_or_rejects_it(desk: Desk, window: Window) -> None:
    approved = desk.proposes("second", _policy("tables"))
    admin = window.be("admin", "/policies")
    assert admin.sees("Creates tables", "section .cards")
    admin.press("Approve the change")
    admin.wait_for(lambda: "tables" in admin.text("main > .cards"))

    rejected = desk.proposes("second", _policy("diagrams"))
    admin.open("/policies")
    assert admin.sees("Creates diagrams", "section .cards")
    admin.write("Comment", "Ask the owners first")
    admin.press("Reject it")
    admin.wait_for(lambda: "diagrams" not in admin.text("section .cards"))

    assert desk.call("second", "GET", approved)["state"] == "APPROVED"
    assert desk.call("second", "GET", rejected)["decideComment"] == "Ask the owners first"
    assert "diagrams" not in admin.text("main > .cards")
    assert admin.complaints() == []


def test_a_draft_that_counts_at_once_ends_what_would_not_be_given_any_more(desk_of_its_own: Desk) -> None:
    desk, window = desk_of_its_own, desk_of_its_own.window()
    desk.applies("second", _policy("notes"))
    desk.asks("alice", "notes", "notes/today")
    assert desk.allows("notes/today")
    admin = window.be("admin", "/policies")

    admin.paste("Draft", json.dumps([_policy("notes") | {"eligible": {"groups": ["writers"]}}]))
    admin.press("Apply …")
    assert admin.sees("Changes notes: eligible", "dialog")
    assert admin.sees("of alice@example.com goes on", "dialog")
    admin.wait_for(lambda: admin.find("dialog input[type=checkbox]")).click()
    assert admin.sees("of alice@example.com would end", "dialog")
    admin.press("Apply", "dialog")

    assert admin.sees("1 policy has changed.")
    assert not desk.allows("notes/today")
    window.close()
