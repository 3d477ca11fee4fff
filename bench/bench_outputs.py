"""What ``gensoup bench`` leaves behind: the terminal's lines, JSON, JUnit XML, a page, a certificate."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gensoup.bench.verdict_text import print_verdict
from gensoup.runtime.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from gensoup.bench.measurement import Measurement
    from gensoup.bench.result_file import TraceFile
    from gensoup.bench.tier import Tier
    from gensoup.bench.verdict import Verdict
    from gensoup.runtime.signature import SigningKey


@dataclass(frozen=True)
class CertificateRequest:
    """A certificate to be written for a PASS. key: signs it, None: nobody does."""

    path: Path
    key: SigningKey | None

    @classmethod
    def of(cls, path: Path | None, key: Path | None, tier: Tier) -> CertificateRequest | None:
        """Check, before half an hour is measured, that a certificate can come of it; None where none is wanted.

        Raises UsageError for what does not go together or is no key, MissingDependencyError.
        """
        from gensoup.runtime.certificate import check_canonical_form
        from gensoup.runtime.signature import SigningKey
        from gensoup.runtime.signature_cli import ask_passphrase

        if path is None:
            if key is not None:
                raise UsageError("--sign: signs a certificate; add --certificate FILE")
            return None
        if tier.name != "certify":
            raise UsageError(f"--certificate: only --tier certify carries a claim, {tier.name} is a screen")
        check_canonical_form()
        signing = None if key is None else SigningKey.load(key, ask_passphrase)
        return cls(path, signing)


@dataclass(frozen=True)
class BenchOutputs:
    """Files to write, None: not wanted."""

    json: Path | None = None
    junit: Path | None = None
    html: Path | None = None
    certificate: CertificateRequest | None = None

    def check(self) -> None:
        """Raise MissingDependencyError, before anything is measured, where the page could not be made."""
        if self.html is not None:
            from gensoup.bench.page import check_pages

            check_pages()

    def write(self, verdict: Verdict, measurement: Measurement, trace: Path | None, console: Console) -> None:
        """Write the files and print the verdict, whichever of the two fails. trace: where the measurement was saved,
        None: nowhere."""
        name, line = measurement.bundle or verdict.bundle_sha256[:16], ""
        try:
            line = self._write_files(verdict, measurement, name, trace)
        finally:
            print_verdict(verdict, name, console)
        if line:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _write_files(self, verdict: Verdict, measurement: Measurement, name: str, trace: Path | None) -> str:
        """What became of the certificate, in a line; empty where none is wanted."""
        from gensoup.bench.result_file import TraceFile, bench_result, write_bench_result
        from gensoup.runtime.files import write_atomic

        file = None if trace is None else TraceFile.of(trace)
        if self.json is not None:
            write_bench_result(self.json, bench_result(verdict, measurement, file))
        if self.junit is not None:
            from gensoup.bench.junit import write_junit

            write_junit(self.junit, verdict, name, _plain_text(verdict, name))
        line = (
            "" if self.certificate is None or file is None else _certify(self.certificate, verdict, measurement, file)
        )
        if self.html is not None:
            from gensoup.bench.gate_page import gate_page

            write_atomic(self.html, gate_page(verdict, measurement, name, file))
        return line


def _certify(wanted: CertificateRequest, verdict: Verdict, measurement: Measurement, trace: TraceFile) -> str:
    from gensoup.bench.certify import certificate_values
    from gensoup.bench.verdict import Outcome
    from gensoup.runtime.certificate import write_certificate

    if verdict.verdict is not Outcome.PASS:
        return f"no certificate: {wanted.path} is written for a PASS alone"
    write_certificate(wanted.path, certificate_values(verdict, measurement, trace), wanted.key)
    by = "not signed" if wanted.key is None else f"signed by {wanted.key.public.name}"
    return f"{wanted.path}: certificate, {by}; keep {trace.path.name} with it"


def _plain_text(verdict: Verdict, name: str) -> str:
    from rich.console import Console

    text = io.StringIO()
    print_verdict(verdict, name, Console(file=text, width=120, color_system=None))
    return text.getvalue()
