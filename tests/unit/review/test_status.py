"""HTTP statuses of expected errors."""

import errno

import pytest

from efface.errors import AnatomyError, ClusterError, InputError, OutputError
from efface.review.app import status_of


def caused(error, cause):
    try:
        raise error from cause
    except type(error) as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("there is no such case"), 400),
        (AnatomyError("no head was found"), 500),
        (ClusterError("gone"), 500),
        (OutputError("cannot write"), 500),
        (caused(OutputError("no space left"), OSError(errno.ENOSPC, "No space left on device")), 507),
        (caused(OutputError("quota"), OSError(errno.EDQUOT, "Disk quota exceeded")), 507),
        (caused(OutputError("not allowed"), OSError(errno.EACCES, "Permission denied")), 500),
    ],
)
def test_only_a_full_disk_is_out_of_storage(error, status):
    assert status_of(error) == status
