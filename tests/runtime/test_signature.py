"""Keys and signatures: what a required signature lets through, and every way it must not."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from typer.testing import CliRunner

from gensoup.cli import app
from gensoup.runtime.bundle import bundle_digest, read_bundle, sign_bundle
from gensoup.runtime.classifier import Classifier
from gensoup.runtime.errors import BundleError, UsageError, WriteError
from gensoup.runtime.seal import MAX_SIGNATURES, Sealed, Signature, seal, unseal
from gensoup.runtime.signature import SigningKey, create_key, load_public_keys, public_path


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Two private keys; their public ones lie beside them."""
    paths = tmp_path / "ours.key", tmp_path / "theirs.key"
    for path in paths:
        create_key(path)
    return paths


@pytest.fixture
def signed(tiny_bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> Path:
    """The tiny bundle, signed by the first key."""
    path = tmp_path / "signed.gensoup"
    sign_bundle(tiny_bundle, SigningKey.load(keys[0]), path)
    return path


def refusal(path: Path, key: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(path, public_path(key))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def mistake(path: Path, *, signing: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        SigningKey.load(path) if signing else load_public_keys(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def resealed(sealed: Sealed, *signatures: Signature, flip: int | None = None) -> bytes:
    """The file that someone makes who knows the format but no key."""
    content = bytearray(sealed.unsigned)
    if flip is not None:
        content[flip] ^= 1
    return seal(bytes(content), signatures)


def test_signed_by_the_required_key(signed: Path, tiny_bundle: Path, keys: tuple[Path, Path]) -> None:
    bundle = read_bundle(signed, public_path(keys[0]))
    plain = read_bundle(tiny_bundle)
    assert bundle.sha256 == plain.sha256 == bundle_digest(signed.read_bytes())  # certificates go on to hold
    assert bundle.manifest == plain.manifest
    assert bundle.signatures == (SigningKey.load(keys[0]).sign(plain.sha256),)
    assert Classifier.load(signed, threads=1, require_signature=str(public_path(keys[0]))).sha256 == plain.sha256
    assert read_bundle(signed).signatures == bundle.signatures  # and without one required it opens too


def test_the_last_bytes_are_the_digest_of_all_before_them(signed: Path, tiny_bundle: Path) -> None:
    for path in (signed, tiny_bundle):
        content = path.read_bytes()
        assert hashlib.sha256(content[:-64]).hexdigest() == content[-64:].decode()
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.comment.endswith(content[-64:])


def test_taking_the_signature_off_gives_the_unsigned_bytes(signed: Path, tiny_bundle: Path) -> None:
    assert unseal(signed.read_bytes()).unsigned == tiny_bundle.read_bytes()


def test_openssl_agrees(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """What docs/trust.md says of checking a signature without GenSoup."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    line = re.search(rb"\ned25519 ([0-9a-f]{64}) ([0-9a-f]{128})", signed.read_bytes())
    assert line is not None
    (tmp_path / "signature").write_bytes(bytes.fromhex(line.group(2).decode()))
    message = f"GenSoup bundle 1\n{read_bundle(signed).sha256}"
    (tmp_path / "message").write_text(message)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public_path(keys[0])), "-rawin"]
    command += ["-in", str(tmp_path / "message"), "-sigfile", str(tmp_path / "signature")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    (tmp_path / "message").write_text(message + " ")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_a_bundle_without_a_signature_is_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    signed.write_bytes(unseal(signed.read_bytes()).unsigned)
    read_bundle(signed)
    assert "is not signed" in refusal(signed, keys[0])


def test_another_key_is_refused_with_both_names(signed: Path, keys: tuple[Path, Path]) -> None:
    message = refusal(signed, keys[1])
    for path in keys:
        assert SigningKey.load(path).public.name in message


def test_any_change_breaks_the_signature(signed: Path, keys: tuple[Path, Path]) -> None:
    """Every byte counts, the zip's own tables too, though whoever changes it makes all hashes anew."""
    sealed = unseal(signed.read_bytes())
    length = len(sealed.unsigned)
    places = {2, 10, 40, length // 2, length - 64 - 22, length - 64 - 10, *range(100, length - 70, length // 40)}
    for place in places:
        signed.write_bytes(resealed(sealed, *sealed.signatures, flip=place))
        assert "does not hold" in refusal(signed, keys[0])


def test_a_changed_signature_does_not_hold(signed: Path, keys: tuple[Path, Path]) -> None:
    sealed = unseal(signed.read_bytes())
    (signature,) = sealed.signatures
    value = bytes([signature.value[0] ^ 1]) + signature.value[1:]
    signed.write_bytes(resealed(sealed, Signature(signature.key, value)))
    assert "does not hold" in refusal(signed, keys[0])
    # Another's valid signature under our name, and ours of another bundle.
    for forged in (SigningKey.load(keys[1]).sign(sealed.digest), SigningKey.load(keys[0]).sign("0" * 64)):
        signed.write_bytes(resealed(sealed, Signature(signature.key, forged.value)))
        assert "does not hold" in refusal(signed, keys[0])


def test_a_flipped_bit_in_the_signature_is_damage_to_anyone(signed: Path) -> None:
    whole = signed.read_bytes()
    for back in range(1, 64 + 202 + 24, 7):
        content = bytearray(whole)
        content[-back] ^= 4
        signed.write_bytes(content)
        with pytest.raises(BundleError, match="damaged"):
            read_bundle(signed)


def test_two_signatures_let_keys_rotate(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    before = read_bundle(signed)
    sign_bundle(signed, SigningKey.load(keys[1]), signed)
    for key in keys:
        assert read_bundle(signed, public_path(key)).sha256 == before.sha256
    sealed = unseal(signed.read_bytes())
    signed.write_bytes(seal(sealed.unsigned, sealed.signatures[1:]))  # the old one retired
    read_bundle(signed, public_path(keys[1]))
    assert "not by" in refusal(signed, keys[0])
    both = tmp_path / "both.pub"
    both.write_text("# old\n" + public_path(keys[0]).read_text() + "# new\n" + public_path(keys[1]).read_text())
    read_bundle(signed, both)
    assert len(load_public_keys(both)) == 2


def test_another_file_is_replaced_only_by_force(tiny_bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "b.gensoup"
    out.write_text("dear")
    command = ["sign", str(tiny_bundle), "--key", str(keys[0]), "--out", str(out)]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, UsageError) and "--force" in str(refused.exception)
    assert out.read_text() == "dear"
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == 0
    read_bundle(out, public_path(keys[0]))


def test_signing_twice_and_too_often_is_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="already"):
        sign_bundle(signed, SigningKey.load(keys[0]), signed)
    for _ in range(MAX_SIGNATURES - 1):
        sign_bundle(signed, SigningKey(ed25519.Ed25519PrivateKey.generate()), signed)
    with pytest.raises(UsageError, match="no room"):
        sign_bundle(signed, SigningKey.load(keys[1]), signed)
    sealed = unseal(signed.read_bytes())
    with pytest.raises(ValueError):
        seal(sealed.unsigned, [*sealed.signatures, *sealed.signatures])


def test_nobody_vouches_for_a_damaged_bundle(tiny_bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "b.gensoup"
    content = resealed(unseal(tiny_bundle.read_bytes()), flip=300)
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        sign_bundle(path, SigningKey.load(keys[0]), path)
    assert path.read_bytes() == content


def test_a_signature_as_a_comment_of_a_longer_zip_is_refused(signed: Path) -> None:
    """The length that the zip states must be that of the signatures found, or what is parsed was not signed."""
    sealed = unseal(signed.read_bytes())
    content = bytearray(seal(sealed.unsigned, sealed.signatures)[:-64])
    content[-202 - 2] ^= 2
    signed.write_bytes(bytes(content) + hashlib.sha256(content).hexdigest().encode())
    with pytest.raises(BundleError, match="damaged"):
        read_bundle(signed)


def test_keys_are_for_the_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.key"
    key = create_key(path)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    assert load_public_keys(public_path(path)) == (key,)
    before = path.read_bytes()
    for gone in (path, public_path(path)):
        kept = gone.read_bytes()
        with pytest.raises(UsageError, match="never overwritten"):
            create_key(path)
        gone.unlink()
        with pytest.raises(UsageError, match="never overwritten"):
            create_key(path)
        gone.write_bytes(kept)
    assert path.read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(WriteError):
        create_key(tmp_path / "file" / "a.key")


def test_keys_are_confused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    assert "is a private key" in mistake(keys[0])
    assert "is a public key" in mistake(public_path(keys[0]), signing=True)
    two = tmp_path / "two"
    two.write_bytes(keys[0].read_bytes() + keys[1].read_bytes())
    assert "2 keys" in mistake(two, signing=True)
    both = tmp_path / "both"
    both.write_bytes(public_path(keys[0]).read_bytes() + keys[1].read_bytes())
    assert "is a private key" in mistake(both)


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    assert "cannot be read" in mistake(tmp_path / "gone")
    assert "cannot be read" in mistake(tmp_path / "gone", signing=True)
    path = tmp_path / "x"
    for content in (b"", b"hello", bytes(range(256))):
        path.write_bytes(content)
        assert "no key in PEM form" in mistake(path)
        assert "no key in PEM form" in mistake(path, signing=True)
    path.write_bytes(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert "not a readable public key" in mistake(path)
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "cannot be read" in mistake(path, signing=True)
    path.write_bytes(b" " * 100_000)
    assert "too large" in mistake(path)


def test_keys_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for private in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        public = private.public_key()
        path.write_bytes(public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
        assert "not an Ed25519 key" in mistake(path)
        path.write_bytes(private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
        assert "not an Ed25519 key" in mistake(path, signing=True)


def test_a_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    key = create_key(path, "Zungenbrecher ß")
    assert b"ENCRYPTED" in path.read_bytes()
    assert SigningKey.load(path, lambda: "Zungenbrecher ß").public == key
    assert "needs its passphrase" in mistake(path, signing=True)
    with pytest.raises(UsageError, match="passphrase is wrong"):
        SigningKey.load(path, lambda: "other")


def test_the_commands(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    key, bundle = tmp_path / "a.key", tmp_path / "b.gensoup"
    monkeypatch.delenv("GENSOUP_PASSPHRASE", raising=False)
    with pytest.raises(UsageError, match="GENSOUP_PASSPHRASE"):
        run("keygen", "--out", key, "--passphrase")
    monkeypatch.setenv("GENSOUP_PASSPHRASE", "secret")
    assert "public key" in run("keygen", "--out", key, "--passphrase")
    name = load_public_keys(public_path(key))[0].name
    assert name in run("sign", tiny_bundle, "--key", key, "--out", bundle)
    monkeypatch.delenv("GENSOUP_PASSPHRASE")
    run("run", bundle, "--source", "synthetic:64x48", "--frames", "2", "--require-signature", public_path(key))


@pytest.mark.parametrize("command", ["run", "eval", "bench"])
def test_every_command_that_opens_a_bundle_can_require_one(
    command: str, tiny_bundle: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    more = {"run": ["--source", "synthetic"], "eval": [str(tmp_path / "data")], "bench": []}[command]
    arguments = [command, str(tiny_bundle), *more, "--require-signature", str(public_path(keys[0]))]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, BundleError)
    assert "is not signed" in str(result.exception)


def test_cryptography_is_needed_only_for_keys(tiny_bundle: Path, keys: tuple[Path, Path]) -> None:
    code = """
import sys
sys.modules["cryptography"] = None
from pathlib import Path
from gensoup.runtime.bundle import read_bundle
from gensoup.runtime.errors import MissingDependencyError
import gensoup.cli
read_bundle(Path(sys.argv[1]))
try:
    read_bundle(Path(sys.argv[1]), Path(sys.argv[2]))
except MissingDependencyError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(tiny_bundle), str(public_path(keys[0]))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gensoup[sign]" in done.stdout


def test_names_tell_keys_apart(keys: tuple[Path, Path]) -> None:
    names = {load_public_keys(public_path(path))[0].name for path in keys}
    assert len(names) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
