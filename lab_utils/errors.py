"""The errors a reader of the book meets: each is one sentence that names the remedy."""


class LabError(Exception):
    """Something the lab cannot do as asked; the message says what to do instead."""


class NotOnThisTarget(LabError):
    """The target behind the lab cannot do this; the message says where it works."""


class LabClosed(LabError):
    """The lab was closed; its clients and its clock answer no more."""
