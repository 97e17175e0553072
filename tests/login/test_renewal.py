"""Tokens that are renewed before they end: once for everybody, and through an outage of the provider."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from jitaccess.errors import Unauthenticated, Unavailable
from jitaccess.login import file_lock
from jitaccess.login.choices import Place
from jitaccess.login.claims import read_claims
from jitaccess.login.keeping import Keep, Login
from jitaccess.login.renewal import Renewed
from jitaccess.login.tokens import Tokens
from tests.login.conftest import Watch
from tests.login.oidc import Oidc


def renewals(oidc: Oidc) -> list[int]:
    """The statuses of the answers to refresh tokens."""
    return [form["status"] for form in oidc.forms() if form.get("grant_type") == "refresh_token"]


def test_a_token_is_used_until_shortly_before_its_end(oidc: Oidc, kept: Login, keep: Keep, watch: Watch) -> None:
    source = Renewed(keep, clock=watch)
    watch.ahead = 470

    assert source() == source.at_hand() == kept.tokens.bearer
    assert renewals(oidc) == []


def test_it_is_renewed_two_minutes_before_its_end_and_the_new_one_kept(
    oidc: Oidc, kept: Login, keep: Keep, watch: Watch
) -> None:
    source = Renewed(keep, clock=watch)
    watch.ahead = 481

    token = source()

    now = keep.read()
    assert now is not None
    assert token == now.tokens.bearer != kept.tokens.bearer
    assert read_claims(token)["sub"] == "alice@example.com"
    assert now.tokens.refresh_token != kept.tokens.refresh_token
    assert renewals(oidc) == [200]


def test_threads_renew_it_once(oidc: Oidc, kept: Login, keep: Keep, watch: Watch) -> None:
    source = Renewed(keep, clock=watch)
    watch.ahead = 481

    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: source(), range(16)))

    assert len(tokens) == 1
    assert renewals(oidc) == [200]


_ANOTHER_PROCESS = """
import sys, time
from pathlib import Path
from jitaccess.login.choices import Place
from jitaccess.login.keeping import Keep
from jitaccess.login.renewal import Renewed
source = Renewed(Keep(Path(sys.argv[1]), "prod", Place.FILE), clock=lambda: time.time() + 481)
sys.stdin.readline()
print(source())
"""


def test_processes_renew_it_once(oidc: Oidc, kept: Login, keep: Keep, tmp_path: Path) -> None:
    """A refresh token that came twice would end the login (RFC 9700, 4.14.2)."""
    command = [sys.executable, "-c", _ANOTHER_PROCESS, str(tmp_path / "jit")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    tokens = {process.communicate(timeout=60)[0] for process in processes}

    assert len(tokens) == 1
    assert renewals(oidc) == [200]


def test_a_refresh_token_that_was_stolen_and_used_ends_the_login_for_both(
    oidc: Oidc, kept: Login, keep: Keep, watch: Watch, tmp_path: Path
) -> None:
    stolen = Keep(tmp_path / "thief", "prod", Place.FILE)
    stolen.write(kept)
    watch.ahead = 481
    Renewed(keep, clock=watch)()

    watch.ahead = 700
    with pytest.raises(Unauthenticated) as thief:
        Renewed(stolen, clock=watch)()
    watch.ahead = 1400
    with pytest.raises(Unauthenticated) as holder:
        Renewed(keep, clock=watch)()

    assert thief.value.reason == holder.value.reason == "LOGIN_ENDED"


def test_while_the_provider_is_away_the_token_goes_on_until_its_end(
    oidc: Oidc, kept: Login, keep: Keep, watch: Watch
) -> None:
    source = Renewed(keep, clock=watch)
    oidc.go_away()
    watch.ahead = 590
    assert source() == kept.tokens.bearer

    watch.ahead = 601
    with pytest.raises(Unavailable, match=r"is away.*the last token ended") as caught:
        source()
    assert caught.value.reason == "PROVIDER_UNAVAILABLE"

    oidc.go_away(False)
    assert source() != kept.tokens.bearer


def test_while_the_login_cannot_be_locked_the_token_goes_on_until_its_end(
    kept: Login, keep: Keep, watch: Watch, tmp_path: Path
) -> None:
    (tmp_path / "jit" / "tokens" / "prod.lock").mkdir()
    source = Renewed(keep, clock=watch)
    watch.ahead = 590
    assert source() == kept.tokens.bearer

    watch.ahead = 601
    with pytest.raises(Unavailable, match=r"prod\.lock") as caught:
        source()

    assert caught.value.reason == "TOKEN_STORE_UNUSABLE"


def test_a_refresh_token_is_not_used_up_where_the_new_one_could_not_be_kept(
    oidc: Oidc, kept: Login, keep: Keep, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(login: Login) -> None:
        raise Unavailable("the disk is full", reason="TOKEN_STORE_UNUSABLE")

    monkeypatch.setattr(keep, "write", full)
    watch.ahead = 590

    assert Renewed(keep, clock=watch)() == kept.tokens.bearer
    assert renewals(oidc) == []


def test_who_logged_out_goes_on_with_nothing(kept: Login, keep: Keep, watch: Watch) -> None:
    source = Renewed(keep, clock=watch)
    source()
    keep.remove()
    watch.ahead = 500

    with pytest.raises(Unauthenticated) as caught:
        source()

    assert caught.value.reason == "NOT_LOGGED_IN"
    assert source.at_hand() is None


def test_a_provider_that_is_away_is_left_alone_for_a_while(oidc: Oidc, kept: Login, keep: Keep, watch: Watch) -> None:
    source = Renewed(keep, clock=watch)
    oidc.go_away()
    watch.ahead = 500
    source()
    oidc.go_away(False)

    source()
    assert renewals(oidc) == []
    watch.ahead = 516
    source()

    assert renewals(oidc) == [200]


def test_a_login_that_the_provider_ended_says_so_once_the_token_is_over(
    oidc: Oidc, kept: Login, keep: Keep, watch: Watch
) -> None:
    keep.write(replace(kept, tokens=replace(kept.tokens, refresh_token="revoked")))
    source = Renewed(keep, clock=watch)
    watch.ahead = 500
    assert source() == kept.tokens.bearer

    watch.ahead = 601
    with pytest.raises(Unauthenticated) as caught:
        source()

    assert caught.value.reason == "LOGIN_ENDED"


def test_without_a_refresh_token_the_login_lasts_as_long_as_its_token(
    oidc: Oidc, keep: Keep, logged_in: Callable[..., Tokens], watch: Watch
) -> None:
    tokens = logged_in("no-refresh")
    keep.write(Login(registration=oidc.registration("no-refresh"), tokens=tokens))
    source = Renewed(keep, clock=watch)
    watch.ahead = 590
    assert source() == tokens.bearer

    watch.ahead = 601
    with pytest.raises(Unauthenticated, match="no refresh token"):
        source()


def test_a_clock_that_is_hours_off_does_not_end_a_token_early(kept: Login, keep: Keep, oidc: Oidc) -> None:
    """The end is counted from when the token came, by this machine's own clock."""
    ahead = Watch()
    ahead.ahead = 481
    source = Renewed(keep, clock=ahead)
    source()
    again = keep.read()
    assert again is not None
    assert again.tokens.expires_at == pytest.approx(ahead() + 600, abs=30)


def test_a_clock_that_was_set_back_has_the_token_renewed(oidc: Oidc, kept: Login, keep: Keep, watch: Watch) -> None:
    """Else it would count as good for hours after its end."""
    watch.ahead = -7200

    assert Renewed(keep, clock=watch)() != kept.tokens.bearer


def test_nobody_is_logged_in_after_the_login_was_forgotten(kept: Login, keep: Keep) -> None:
    keep.remove()

    with pytest.raises(Unauthenticated) as caught:
        Renewed(keep)()

    assert caught.value.reason == "NOT_LOGGED_IN"


def test_the_file_is_for_its_user_alone(kept: Login, keep: Keep, tmp_path: Path) -> None:
    path = tmp_path / "jit" / "tokens" / "prod.json"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_may_read_is_refused(kept: Login, keep: Keep, tmp_path: Path) -> None:
    path = tmp_path / "jit" / "tokens" / "prod.json"
    path.chmod(0o640)

    with pytest.raises(Unauthenticated, match="chmod 600") as caught:
        keep.read()

    assert caught.value.reason == "TOKEN_STORE_EXPOSED"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"issuer": 1}', "{" * 100_000], ids=range(5))
def test_a_file_that_holds_no_login_is_an_error_without_its_content(keep: Keep, tmp_path: Path, text: str) -> None:
    path = tmp_path / "jit" / "tokens" / "prod.json"
    path.parent.mkdir(parents=True)
    path.touch(0o600)
    path.write_text(text)

    with pytest.raises(Unauthenticated, match="holds no login"):
        keep.read()


def test_a_lock_that_another_process_holds_is_waited_for_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"

    with file_lock.held(path), pytest.raises(Unavailable) as caught:
        with file_lock.held(path, patience=0.0):
            pass

    assert caught.value.reason == "LOGIN_LOCKED"
    with file_lock.held(path, patience=0.0):
        pass


def test_no_token_stands_in_a_repr_of_what_is_kept_in_a_message(kept: Login, keep: Keep) -> None:
    path = Path(keep.shown().removeprefix("the file "))
    path.write_text(json.dumps({"access_token": "secret"}))
    os.chmod(path, 0o600)

    with pytest.raises(Unauthenticated) as caught:
        keep.read()

    assert "secret" not in str(caught.value)
