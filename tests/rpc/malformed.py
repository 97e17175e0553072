"""Requests that the transcoder refuses, with the field that is wrong and words of how it is written."""

from __future__ import annotations

from typing import NamedTuple


class Malformed(NamedTuple):
    """One request, the JSON path of its fault, and words that its explanation has to have."""

    verb: str
    target: str
    body: str
    path: str
    words: str

    def __str__(self) -> str:
        return f"{self.target} {self.body}".strip()


def _grant(body: str, path: str, words: str) -> Malformed:
    return Malformed("POST", "/v1/grants", body, path, words)


def _policy(body: str, path: str, words: str) -> Malformed:
    return Malformed("POST", "/v1/policies?policyId=a", body, path, words)


BODIES = [
    _grant(
        '{"justification": "fix"}',
        "justification",
        'is "fix"; it must be an object such as {"text": ..., "ticket": ...}',
    ),
    _grant('{"justification": ["fix"]}', "justification", 'is ["fix"]; it must be an object'),
    _grant('{"justification": {"text": 5}}', "justification.text", "is 5; it must be text"),
    _grant('{"duration": "10m"}', "duration", 'is "10m"; it must be in seconds, "600s"'),
    _grant('{"duration": "1h30m"}', "duration", '"5400s"'),
    _grant('{"duration": "an hour"}', "duration", 'it must be seconds with an s, such as "3600s"'),
    _grant('{"duration": 600}', "duration", 'is 600; it must be seconds with an s, such as "3600s"'),
    _grant('{"startTime": "tomorrow"}', "startTime", 'it must be an instant such as "2026-01-31T12:00:00Z"'),
    _grant('{"startTime": "2026-01-31T12:00:00"}', "startTime", "an instant such as"),
    _grant('{"start_time": 5}', "startTime", "an instant such as"),
    _grant('{"resources": 5}', "resources", "is 5; it must be a list, each element text"),
    _grant('{"resources": {"a": 1}}', "resources", "it must be a list"),
    _grant('{"resources": ["a", 5]}', "resources[1]", "is 5; it must be text"),
    _grant('{"subject": true}', "subject", "is true; it must be text"),
    _grant('{"subject": ["a"]}', "subject", 'is ["a"]; it must be text'),
    _grant('{"subject": {}}', "subject", "is {}; it must be text"),
    _grant('{"labels": []}', "labels", "is []; it must be an object, each value text"),
    _grant('{"labels": {"team": 5}}', "labels.team", "is 5; it must be text"),
    _grant('{"context": 5}', "context", "is 5; it must be an object"),
    _grant('{"maxUses": "x"}', "maxUses", 'is "x"; it must be a whole number'),
    _grant('{"maxUses": 1.5}', "maxUses", "it must be a whole number"),
    _grant('{"maxUses": 3000000000}', "maxUses", "it must be a whole number"),
    _grant('{"maxUses": true}', "maxUses", "is true; it must be a whole number"),
    _grant('{"breakGlass": "sure"}', "breakGlass", 'is "sure"; it must be true or false'),
    _grant('{"breakGlass": []}', "breakGlass", "it must be true or false"),
    _policy('{"steps": [{"approvalsNeeded": "two"}]}', "policy.steps[0].approvalsNeeded", "it must be a whole number"),
    _policy('{"steps": [{"approvers": ["x"]}]}', "policy.steps[0].approvers", '{"principals": ..., "groups": ...}'),
    _policy('{"steps": ["x"]}', "policy.steps[0]", "it must be an object"),
    _policy('{"maxDuration": "2h"}', "policy.maxDuration", 'it must be in seconds, "7200s"'),
    _policy(
        '{"justification": {"required": "sometimes"}}', "policy.justification.required", "it must be true or false"
    ),
    Malformed("POST", "/v1/grants/a:approve", '{"name": "grants/b"}', "name", "stands in the path"),
]
QUERIES = [
    Malformed("GET", "/v1/grants?view=EVERYTHING", "", "view", 'is "EVERYTHING"; it must be one of MINE, REVIEWABLE'),
    Malformed("GET", "/v1/grants?pageSize=many", "", "pageSize", 'is "many"; it must be a whole number'),
    Malformed("GET", "/v1/grants?page_size=many", "", "pageSize", "it must be a whole number"),
    Malformed(
        "GET", "/v1/grants?foo=1", "", "foo", "has no such field; it has filter, orderBy, pageSize, pageToken, view"
    ),
]
