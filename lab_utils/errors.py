"""The errors a reader of the book meets: each is one sentence that names the remedy."""


class LabError(Exception):
    """Something the lab cannot do as asked; the message says what to do instead."""


class NotOnThisTarget(LabError):
    """The target behind the lab cannot do this; the message says where it works."""


class LabClosed(LabError):
    """The lab was closed; its clients and its clock answer no more."""


class TrimmedRecords(LabError):
    """Records went after their day before a reader came to them; reading on goes on behind them."""


class TrimmedRecordsWarning(UserWarning):
    """The same for a reader that reports such gaps and reads on."""
