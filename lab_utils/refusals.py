"""What AWS, or the way to it, refuses: one sentence that says what failed, and the remedy.

with explained("creating table Orders", label): ...
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as botocore
from botocore.exceptions import BotoCoreError, ClientError

from lab_utils.errors import LabError
from lab_utils.labels import Label

DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMSAccessDeniedException",
    "UnauthorizedOperation",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
UNKNOWN = {
    "AuthFailure",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "SubscriptionRequiredException",
    "UnrecognizedClientException",
}
"""Also what a Region that the account has not enabled answers to good credentials."""
THROTTLED = {
    "BandwidthLimitExceeded",
    "KMSThrottlingException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
USED_UP = {
    "CodeStorageExceededException",
    "LimitExceeded",
    "LimitExceededException",
    "OverLimit",
    "ResourceLimitExceeded",
    "ServiceQuotaExceededException",
    "TooManyBuckets",
    "TopicLimitExceeded",
    "TopicLimitExceededException",
}
"""Some services say the same of calls that come too fast."""

LOGGED_OUT = (
    botocore.LoginError,
    botocore.NoAuthTokenError,
    botocore.SSOError,
    botocore.TokenRetrievalError,
)
NO_CREDENTIALS = (
    botocore.CredentialRetrievalError,
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
)
UNREACHED = (
    botocore.ConnectionClosedError,
    botocore.ConnectTimeoutError,
    botocore.EndpointConnectionError,
    botocore.ProxyConnectionError,
    botocore.ReadTimeoutError,
    botocore.SSLError,
)
UNRESERVED = 100
"""So much of an account's concurrency no function may reserve (Lambda, PutFunctionConcurrency)."""
NOTHING_TO_RESERVE = (
    f"At least {UNRESERVED} must stay so, and a reservation beyond that is refused: ask Service "
    "Quotas for more concurrent executions, or leave ReduceLambda without a reservation by "
    "connect(reserved_concurrency=None)."
)
_LOG_IN = "log in with `aws login` or `aws sso login`, or name a profile in AWS_PROFILE"


@contextmanager
def explained(doing: str, label: Label | None = None) -> Iterator[None]:
    """Turn botocore's errors, and waits that were too long, into a LabError.

    It says what was being done, and what to do now. `doing` is a gerund, such as "creating table
    Orders"; `label` is that of a lab that has made something already. What has no better words of
    ours passes unchanged.
    """
    began = time.monotonic()
    try:
        yield
        return
    except (BotoCoreError, ClientError) as problem:
        words = in_words(problem, doing, time.monotonic() - began)
        if words is None:
            raise
    except TimeoutError as problem:
        words = f"{_capital(doing)} takes too long ({problem}): look at it in AWS's console."
    raise LabError(" ".join(filter(None, (words, remains(label)))))


def error_code(problem: ClientError) -> str:
    """The name that a service gives to its refusal."""
    return str(problem.response.get("Error", {}).get("Code", ""))


def is_unknown_there(problem: ClientError) -> bool:
    """Whether an emulator has no such operation, so that nothing of its kind can be there."""
    return bool(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 501)


def in_words(problem: BotoCoreError | ClientError, doing: str, seconds: float) -> str | None:
    """The sentence for an error that came after so many `seconds`; None if we have none."""
    doing = _capital(doing)
    if isinstance(problem, ClientError):
        return _refused(problem, doing)
    if isinstance(problem, UNREACHED):
        return _unreached(problem, doing, seconds)
    if isinstance(problem, LOGGED_OUT):
        return f"{doing} failed, for you are not logged in ({_said(problem)}): {_LOG_IN}."
    if isinstance(problem, NO_CREDENTIALS):
        return f"{doing} failed for want of credentials ({_said(problem)}): {_LOG_IN}."
    if isinstance(problem, botocore.ProfileNotFound):
        return (
            f"{doing} failed, for there is no profile {problem.kwargs['profile']!r}: name one that "
            "`aws configure list-profiles` lists in AWS_PROFILE, or unset it."
        )
    return None


def remains(label: Label | None) -> str:
    """What becomes of what a lab has made before something failed."""
    if label is None:
        return ""
    return (
        f"What {label} has made so far stays: run the cell again and it goes on from there, or "
        "remove it with lab.close() or `python -m lab_utils sweep`."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _refused(problem: ClientError, doing: str) -> str | None:
    code = error_code(problem)
    message = str(problem.response.get("Error", {}).get("Message", "")).strip()
    if code in DENIED:
        return _denied(problem.operation_name, message, doing)
    if code in THROTTLED:
        return (
            f"{doing} was refused, for the account asks AWS too often ({code}), and asking again "
            "did not help: wait a minute."
        )
    if code in EXPIRED:
        return (
            f"{doing} was refused, for your credentials have expired ({code}): {_LOG_IN}, and open "
            "the lab again, which reads them anew."
        )
    if code in UNKNOWN:
        return (
            f"{doing} was refused, for AWS does not accept your credentials here ({code}): check "
            "them with `aws sts get-caller-identity`, the clock of this computer, and that the "
            "account has enabled the Region."
        )
    if code == "InvalidParameterValueException" and "UnreservedConcurrentExecution" in message:
        return (
            f"{doing} was refused, for too few concurrent executions of functions are unreserved. "
            f"{NOTHING_TO_RESERVE}"
        )
    if code in USED_UP:
        return (
            f"{doing} was refused, for a quota of the account is used up ({code}: "
            f"{message.rstrip('.')}): remove what is not needed, or ask Service Quotas for more."
        )
    return None


def _denied(operation: str, message: str, doing: str) -> str:
    named = re.search(r"perform(?:ing)?:? ([\w-]+:\w+)", message)
    action = named[1] if named else operation
    if "explicit deny" in message:
        return (
            f"{doing} was refused, for a policy denies you {action} whatever another one allows: "
            "ask whoever administers the account."
        )
    return (
        f"{doing} was refused, for you may not {action}: ask whoever administers the account for "
        "the policy that `python -m lab_utils policy` prints."
    )


def _unreached(problem: BotoCoreError, doing: str, seconds: float) -> str:
    told = problem.kwargs
    where = str(told.get("endpoint_url") or told.get("proxy_url") or "AWS")
    host = re.sub(r"^(\w+://[^/?]+).*", r"\1", where)
    return (
        f"{doing} failed: no answer from {host}, given up after {seconds:.0f} s "
        f"({type(problem).__name__}): check the network, a proxy in HTTPS_PROXY, and "
        "AWS_ENDPOINT_URL if it is set."
    )


def _said(problem: BotoCoreError) -> str:
    return str(problem).strip().rstrip(".")
