"""The sealing key from a command: from a KMS or an HSM, and nothing of it is shown where that does not work."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from jit_service.runtime.dev_issuer import DevIssuer
from jit_service.runtime.service import ServiceError, open_store
from jit_service.settings import Settings, SettingsError
from jit_service.storage.migrate import migrate
from jit_service.storage.sealing_keys import SealingKeys
from jit_service.use_cases import keyring
from jit_service.use_cases.keyring import KeyFileError, secrets_by
from tests import prepared
from tests.storage.people import add_policy

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()


def shell(script: str) -> str:
    return shlex.join(["/bin/sh", "-c", script])


def test_what_the_command_prints_is_the_key() -> None:
    assert secrets_by(shell(f"echo {TEXT}")) == (KEY,)


def test_it_may_print_several_keys_the_newest_first() -> None:
    newer = base64.b64encode(bytes(32)).decode()

    assert secrets_by(shell(f"echo '# made on a Monday'; echo {newer}; echo; echo {TEXT}")) == (bytes(32), KEY)


def test_a_command_is_run_again_only_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is sealed with an unknown key is met at each call, and an HSM takes its time."""
    file = tmp_path / "keys"
    file.write_text(TEXT)
    source = keyring.fresh_secrets_by(f"cat {file}")
    file.write_text(f"{base64.b64encode(bytes(32)).decode()}\n{TEXT}\n")

    assert source() == (KEY,)
    monkeypatch.setattr(keyring, "_RUN_AGAIN_SECONDS", 0.0)
    assert source() == (bytes(32), KEY)
    file.write_text("hunter2")
    assert source() == (bytes(32), KEY)


def test_no_shell_runs_it() -> None:
    assert secrets_by(f"printf %s {TEXT}") == (KEY,)
    with pytest.raises(KeyFileError, match="printed 3 bytes"):
        secrets_by("printf %s $(x")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (shell(f"echo {TEXT}; echo hunter2 >&2; exit 3"), "/bin/sh ended with status 3; run it by hand"),
        (shell(f"echo {TEXT}; kill -9 $$"), "/bin/sh ended with signal 9"),
        (shell("echo hunter2"), "/bin/sh printed 8 bytes; what it printed does not hold 32 bytes in base64"),
        (shell(f"echo {TEXT} {TEXT}"), "does not hold 32 bytes in base64, or a line of so many for each key"),
        (shell(f"echo {TEXT}; echo hunter2"), "does not hold 32 bytes in base64, or a line of so many for each key"),
        (shell(f"echo {TEXT}; echo {TEXT}"), "what it printed has the same key twice"),
        ("/nowhere/kms get", "JIT_KEY_COMMAND cannot be run: No such file or directory"),
        ("sh 'x", "JIT_KEY_COMMAND is not quoted as for a shell"),
        (" ", "JIT_KEY_COMMAND cannot be run: it is empty"),
    ],
)
def test_what_is_wrong_is_told_without_what_it_prints(command: str, told: str) -> None:
    with pytest.raises(KeyFileError) as refused:
        secrets_by(command)

    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert TEXT not in str(refused.value)


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "_SECONDS", 0.1)

    with pytest.raises(KeyFileError, match=r"sleep gave no key in 0\.1 s"):
        secrets_by("sleep 60")


def test_a_store_is_sealed_by_it_and_opens_with_no_other(tmp_path: Path, sqlite_url: str) -> None:
    usual = {"data_dir": tmp_path, "database_url": sqlite_url}
    store = open_store(Settings.load(**usual, key_command=f"echo {TEXT}"))
    by_command = store.keys.first.of("name", {"fact": 1})
    store.close()
    (tmp_path / "key").write_text(TEXT)
    (tmp_path / "key").chmod(0o600)

    store = open_store(Settings.load(**usual, key_file=tmp_path / "key"))
    by_file = store.keys.first.of("name", {"fact": 1})
    store.close()

    assert by_command == by_file
    assert not (tmp_path / "token.key").exists()
    with pytest.raises(ServiceError, match="JIT_KEY_COMMAND: false ended with status 1"):
        open_store(Settings.load(**usual, key_command="false"))


def test_one_source_only_and_its_arguments_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="JIT_KEY_COMMAND: give this or JIT_KEY_FILE, not both"):
        Settings.load(key_file=tmp_path / "key", key_command="x")

    assert " key_command=cat … " in Settings.load(key_command="cat --pin hunter2").effective()


@dataclass(frozen=True)
class Hsm:
    """SoftHSM as the HSM of docs/operating.md, a directory in place of /etc/jit, and a shell on the host."""

    directory: Path
    blocks: Sequence[str]

    @property
    def command(self) -> str:
        """The page's key command."""
        return str(yaml.safe_load(self.blocks[1])["key_command"])

    def run(self, *numbers: int) -> str:
        """Runs blocks of the page in one shell, and returns what they print."""
        script = "\n".join(self.blocks[number] for number in numbers)
        done = subprocess.run(
            ["/bin/bash", "-ec", script], cwd=self.directory, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def hsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hsm:
    """An HSM with a token, which makes its key by the page's first block."""
    if not MODULE.exists() or shutil.which("pkcs11-tool") is None:
        pytest.skip("softhsm2 and opensc are not installed: apt-get install softhsm2 opensc")
    directory = tmp_path / "etc"
    (directory / "tokens").mkdir(parents=True)
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory / 'tokens'}\n")
    # The PIN is in the environment, not in the arguments, which everybody on the host can read.
    environment = {"PIN": "1234", "SOFTHSM2_CONF": str(directory / "softhsm2.conf"), "JIT_DATA_DIR": str(tmp_path)}
    issuers = directory / "issuers.yaml"
    issuers.write_text(f"[{DevIssuer(tmp_path).issuer().model_dump_json(exclude_defaults=True)}]")
    for name, value in (environment | {"JIT_ISSUERS_FILE": str(issuers)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(prepared.command("jit-service").parent), prepend=os.pathsep)
    made = ["softhsm2-util", "--init-token", "--free", "--label", "jit", "--pin", "1234", "--so-pin", "5678"]
    subprocess.run(made, check=True, capture_output=True)
    section = PAGE.partition("**From a KMS or an HSM.**")[2].partition("With a cloud's KMS")[0]
    blocks = re.findall(r"^```\n(.*?)^```$", section.replace("/etc/jit", str(directory)), re.DOTALL | re.MULTILINE)
    hsm = Hsm(directory, blocks)
    hsm.run(0)
    monkeypatch.setenv("JIT_KEY_COMMAND", hsm.command)
    return hsm


def test_an_hsm_opens_the_key_with_a_private_key_that_never_leaves_it(hsm: Hsm) -> None:
    (key,) = secrets_by(hsm.command)

    assert len(key) == 32
    assert base64.b64encode(key) not in (hsm.directory / "sealed.key").read_bytes()


def test_the_key_from_an_hsm_is_rotated_by_the_steps_of_the_page(
    hsm: Hsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "_RUN_AGAIN_SECONDS", 0.0)
    settings = Settings.load(data_dir=tmp_path, key_command=hsm.command)
    migrate(settings.store_url)
    (old,) = secrets_by(hsm.command)
    with closing(open_store(settings)) as running:
        add_policy(running)

        hsm.run(2, 3)
        told = [json.loads(line) for line in hsm.run(4).splitlines()]

        new, still = secrets_by(hsm.command)
        assert still == old
        add_policy(running, name="policies/after")
    ids = [SealingKeys.of(key).first.key_id for key in (old, new)]
    assert [(each["replacedKey"], each["sealingKey"], each["dryRun"]) for each in told] == [(*ids, True), (*ids, False)]

    hsm.run(2, 5)

    assert secrets_by(hsm.command) == (new,)
    assert secrets_by(hsm.command.replace("sealed.key", "sealed.old")) == (old,)
    with closing(open_store(settings)) as store:
        add_policy(store, name="policies/later")
