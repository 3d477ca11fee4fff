"""``gensoup keygen`` and ``gensoup sign``, and what other commands share of signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PASSPHRASE_VARIABLE = "GENSOUP_PASSPHRASE"

# The option of every command that opens a bundle.
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        "--require-signature",
        metavar="KEY.pub",
        help="Refuse a bundle that this public key, or one of these, did not sign.",
    ),
]

# Of commands that run what was certified.
RequireCertificate = Annotated[
    Path | None,
    typer.Option(
        "--require-certificate",
        metavar="FILE",
        help="Refuse another bundle, device, engine or limit than this certificate of gensoup bench speaks of.",
    ),
]
RequireCertificateSignature = Annotated[
    Path | None,
    typer.Option(
        "--require-certificate-signature",
        metavar="KEY.pub",
        help="Refuse a certificate that this public key, or one of these, did not sign.",
    ),
]


def keygen_command(
    out: Annotated[Path, typer.Option(help="The private key's file; the public key goes beside it, as NAME.pub.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help=f"Encrypt the private key; asked for, or from ${PASSPHRASE_VARIABLE}.")
    ] = False,
) -> None:
    """Make a pair of Ed25519 keys to sign bundles with."""
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.signature import create_key, public_path

    secret = ask_passphrase(confirm=True) if passphrase else None
    if passphrase and not secret:
        raise UsageError(f"--passphrase: nobody to ask; set {PASSPHRASE_VARIABLE} or run at a terminal")
    key = create_key(out, secret)
    typer.echo(f"{out}: private key, keep it off every cart{' and remember its passphrase' if secret else ''}")
    typer.echo(f"{public_path(out)}: public key {key.name}, for --require-signature")


def sign_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.gensoup.", show_default=False)],
    key: Annotated[Path, typer.Option(help="The private key that `gensoup keygen` wrote.")],
    out: Annotated[Path | None, typer.Option(help="Write the signed bundle here; default: in its place.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what stands at --out.")] = False,
) -> None:
    """Sign a bundle, beside the signatures that it has. What it is called elsewhere, its SHA-256, stays."""
    from gensoup.runtime.bundle import sign_bundle
    from gensoup.runtime.errors import UsageError
    from gensoup.runtime.files import check_outputs, check_writable
    from gensoup.runtime.signature import SigningKey

    if out is None or out.resolve() == bundle.resolve():
        check_writable(bundle)
    else:
        check_outputs({"--out": out}, (key,))
        if out.is_file() and not force:
            raise UsageError(f"--out {out}: exists already; --force replaces it, or name another file")
    signing = SigningKey.load(key, ask_passphrase)
    digest = sign_bundle(bundle, signing, out or bundle)
    typer.echo(f"{out or bundle}: signed by {signing.public.name}, sha256 {digest[:16]}…")


def ask_passphrase(confirm: bool = False) -> str | None:
    """The passphrase from the environment, else from the terminal; None where there is neither."""
    import os
    import sys

    if (secret := os.environ.get(PASSPHRASE_VARIABLE)) is not None:
        return secret
    if not sys.stdin.isatty():
        return None
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
