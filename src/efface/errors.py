"""Error tree. Every error a user can cause is an `EffaceError`, and its text is one line.

    EffaceError
     x InputError               a file, an array or a parameter cannot be used
     |   x NothingToRemoveError an edit holds no voxel: there is no face any more, or the brain mask is wrong
     x OutputError              a result cannot be written
     x RegistrationError        a registration did not converge
     x AnatomyError             no head or no brain was found
     |   x StrippedError        a scan shows a brain without its head
     x LandmarkError            facial landmarks are missing
     x ExternalToolError        a published program failed
     x GpuMemoryError           the GPU has too little memory
     x StepTimeoutError         a step of a study took too long
     x ClusterError             the workers of a study are gone
     x MissingDependencyError   an optional package or program is not installed
     x DataPackageError         a data file of an installed package is missing

The text says what was wrong, what was expected, what was received and what to do next.
The command line prints it on stderr and ends with exit code 2; a study records it as a failed row.
"""


class EffaceError(Exception):
    """Base of every expected error of efface."""


class InputError(EffaceError, ValueError):
    """A file, an array or a parameter cannot be used."""


class NothingToRemoveError(InputError):
    """An edit holds no voxel."""


class OutputError(EffaceError, OSError):
    """A result cannot be written."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class RegistrationError(EffaceError, RuntimeError):
    """A registration did not converge."""


class AnatomyError(EffaceError, RuntimeError):
    """A head or a brain was not found where one was expected."""


class StrippedError(AnatomyError):
    """A scan shows a brain without its head."""


class LandmarkError(EffaceError, RuntimeError):
    """Facial landmarks were not found, or not as many as a face has."""


class ExternalToolError(EffaceError, RuntimeError):
    """A published program failed, took too long, or wrote something that cannot be used."""


class GpuMemoryError(EffaceError, MemoryError):
    """A network does not fit into the memory of the GPU."""


class StepTimeoutError(EffaceError, RuntimeError):
    """A step of a study took longer than it may, and was stopped."""


class ClusterError(EffaceError, RuntimeError):
    """The workers of a study cannot be reached, or are gone."""


class MissingDependencyError(EffaceError, ImportError):
    """An optional package is needed; the text names the extra to install."""


class DataPackageError(EffaceError, FileNotFoundError):
    """A data file that an installed package should carry is not there."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def one_line(message: str) -> str:
    """Make a message one printable line: no line breaks, no control characters from file names."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(message.split()))
