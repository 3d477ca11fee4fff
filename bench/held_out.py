"""Which images of a folder a bundle has not been trained on, and a word where nobody asked."""

from __future__ import annotations

from pathlib import Path

from gensoup.bench.dataset import LabelledFolder
from gensoup.bench.roles import read_roles, roles_digest
from gensoup.runtime.archive import shown
from gensoup.runtime.errors import DataError
from gensoup.runtime.manifest import Manifest

_SHOWN = 12  # hexadecimal digits of a hash


def unseen_images(folder: LabelledFolder, roles_file: Path, manifest: Manifest) -> LabelledFolder:
    """The images that served for nothing but the test.

    Raises DataError, with both hashes, for the roles of another run than the bundle's or other data than it was trained
    on: what is test there may have been trained on here. Bundles of before these were noted are taken at the user's
    word.
    """
    roles = read_roles(roles_file)
    noted, found = manifest.provenance.get("roles_sha256"), roles_digest(roles)
    if noted is not None and noted != found:
        raise DataError(
            f"--roles {roles_file}: of another run (roles {found[:_SHOWN]}…, the bundle's {_hash(noted)}); "
            "give the roles.csv of the run that the bundle was exported from"
        )
    trained_on, data = manifest.provenance.get("data_fingerprint"), folder.fingerprint()
    if trained_on is not None and trained_on != data:
        raise DataError(
            f"{folder.path}: not the data of --roles (fingerprint {data[:_SHOWN]}…, the bundle's {_hash(trained_on)}): "
            "files, sizes or groups differ; give the folder as it was trained on, or other images without --roles"
        )
    if not (files := roles.get("test")):
        raise DataError(f"--roles {roles_file}: names no test images; give the roles.csv of a run")
    return folder.only(files)


def seen_remark(folder: LabelledFolder, manifest: Manifest | None) -> str | None:
    """A line where ``folder`` is all that the bundle was made with: most of it is learnt by heart. None elsewhere."""
    if manifest is None or manifest.provenance.get("data_fingerprint") != folder.fingerprint():
        return None
    return (
        f"{folder.path} is what the bundle was trained on, so these scores count images that it has learnt; "
        "--roles RUN/roles.csv scores its test images alone"
    )


def _hash(value: object) -> str:
    return f"{shown(str(value)[:_SHOWN])}…"
