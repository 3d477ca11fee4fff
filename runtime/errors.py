"""The errors a user can cause and mend: one line that names the file or option and the remedy."""


class GenSoupError(Exception):
    """A mistake in the input or the environment. The command line prints it without a traceback."""

    exit_code = 70


class UsageError(GenSoupError):
    """An option or argument that cannot be used as given."""

    exit_code = 64


class Interrupted(GenSoupError):
    """Ctrl-C during something that says what is left of it."""

    exit_code = 130


class DataError(GenSoupError):
    """A dataset folder, image or video that cannot be used."""


class WriteError(GenSoupError):
    """A file or folder that cannot be written: a full disk, a missing permission."""


class BundleError(GenSoupError):
    """A bundle that is damaged, foreign, too new, or that does not give its golden outputs."""


class EngineError(GenSoupError):
    """An inference engine that is missing or failed."""


class MissingDependencyError(GenSoupError):
    """A package of an extra that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"'{package}' is not installed: pip install 'gensoup[{extra}]'")


class CertificateError(GenSoupError):
    """A certificate that is damaged, not signed as demanded, or of another bundle, device, engine or limit."""
