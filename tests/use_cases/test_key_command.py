"""The sealing key from a command: from a KMS or an HSM, and nothing of it is shown where that does not work."""

from __future__ import annotations

import base64
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from jit_service.runtime.service import ServiceError, open_store
from jit_service.settings import Settings, SettingsError
from jit_service.use_cases import keyring
from jit_service.use_cases.keyring import KeyFileError, secrets_by

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()
MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


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


def test_an_hsm_opens_the_key_with_a_private_key_that_never_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/operating.md says it, with SoftHSM as the HSM."""
    if not MODULE.exists() or shutil.which("pkcs11-tool") is None:
        pytest.skip("softhsm2 and opensc are not installed: apt-get install softhsm2 opensc")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    environment = os.environ | {"SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf")}
    tool = ["pkcs11-tool", "--module", str(MODULE), "--token-label", "jit", "--pin", "1234"]
    mechanism = ["--mechanism", "RSA-PKCS-OAEP", "--hash-algorithm", "SHA-1", "--mgf", "MGF1-SHA1"]

    def run(*command: str) -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)

    run("softhsm2-util", "--init-token", "--free", "--label", "jit", "--pin", "1234", "--so-pin", "5678")
    run(*tool, "--login", "--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "jit-seal")
    run(*tool, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", "public.der")
    run("openssl", "rsa", "-pubin", "-inform", "DER", "-in", "public.der", "-out", "public.pem")
    (tmp_path / "plain").write_text(TEXT)
    run("openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", "public.pem", "-in", "plain", "-out", "sealed.key",
        "-pkeyopt", "rsa_padding_mode:oaep")  # fmt: skip
    opening = [*tool, "--login", "--decrypt", "--id", "01", *mechanism, "--input-file", str(tmp_path / "sealed.key")]

    # The PIN is in the environment, not in the arguments, which everybody on the host can read.
    monkeypatch.setenv("SOFTHSM2_CONF", environment["SOFTHSM2_CONF"])
    monkeypatch.setenv("PIN", "1234")
    got = secrets_by(shlex.join("env:PIN" if word == "1234" else word for word in opening))

    assert got == (KEY,)
    assert TEXT.encode() not in (tmp_path / "sealed.key").read_bytes()
