"""How boto3 reaches the lab: without a socket, a credential or a setting of the reader's.

Every lab client comes from a botocore session of its own kind. It differs from the usual one in
where it looks (nowhere: no environment, no files, no metadata service), in how it waits (retries
and waiters spend virtual time) and in who answers (the lab, before anything is sent).
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import boto3.session
import botocore.configprovider as configprovider
import botocore.session
from botocore import UNSIGNED, handlers, xform_name
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.errorfactory import ClientExceptionsFactory
from botocore.loaders import Loader
from botocore.regions import EndpointResolver
from botocore.retries import quota, standard
from botocore.retryhandler import RetryHandler, create_checker_from_retry_config
from botocore.translate import build_retry_config
from botocore.utils import parse_timestamp, tzutc
from botocore.waiter import NormalizedOperationMethod, Waiter

from lab_utils.errors import LabError

Send = Callable[[Any, str], Any]
"""Answers a prepared request: (AWSPreparedRequest, event name) -> AWSResponse."""

Wait = Callable[[float], None]
"""Lets so many seconds of virtual time pass for whoever calls."""


# --- what all sessions of the process share, because loading it is what costs ---------------


@lru_cache(maxsize=1)
def _loader() -> Any:
    """One loader of service models, which never looks into the reader's ~/.aws/models."""
    paths = [Loader.BUILTIN_DATA_PATH, str(Path(boto3.session.__file__).parent / "data")]
    return Loader(extra_search_paths=paths, include_default_search_paths=False)


@lru_cache(maxsize=1)
def _endpoint_resolver() -> Any:
    return EndpointResolver(_loader().load_data("endpoints"), uses_builtin_data=True)


@lru_cache(maxsize=1)
def _exceptions_factory() -> Any:
    return ClientExceptionsFactory()


_NOWHERE: dict[str, str] = {}
"""The environment of every lab session: it stays empty."""


def _config_store(session: Any) -> Any:
    """botocore's configuration chain over an empty environment.

    The default of `retry_mode` is pinned because botocore reads it from the environment once, when
    it is imported.
    """
    chain = configprovider.ConfigChainFactory(session=session, environ=_NOWHERE)

    def mapping(variables: dict[str, Any]) -> dict[str, Any]:
        return {
            name: chain.create_config_chain(
                instance_name=name,
                env_var_names=environment,
                config_property_names=prop,
                default=default,
                conversion_func=convert,
            )
            for name, (prop, environment, default, convert) in variables.items()
        }

    general = dict(configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES)
    general["retry_mode"] = ("retry_mode", None, "legacy", None)
    store = mapping(general)
    for section, variables in (
        ("s3", configprovider.DEFAULT_S3_CONFIG_VARS),
        ("proxies_config", configprovider.DEFAULT_PROXIES_CONFIG_VARS),
    ):
        store[section] = configprovider.SectionConfigProvider(section, session, mapping(variables))
    return configprovider.ConfigValueStore(mapping=store)


def _parse_timestamp(value: Any) -> Any:
    """botocore's timestamps are in the machine's zone; the lab's are in UTC on every machine."""
    return parse_timestamp(value).astimezone(tzutc())


# --- the session ----------------------------------------------------------------------------


class LabSession(botocore.session.Session):  # type: ignore[misc]
    """A botocore session whose clients are answered by `send` and wait with `wait`."""

    def __init__(
        self, *, region: str, send: Send, wait: Wait, rng: random.Random, profile: str | None = None
    ) -> None:
        self._lab_region, self._lab_send, self._lab_wait, self._lab_rng = region, send, wait, rng
        self._lab_waits = type("VirtualWaits", (_VirtualWaits,), {"lab_wait": staticmethod(wait)})
        self._lab_clients: dict[str, Any] = {}
        self._lab_boto3: Any = None
        super().__init__(profile=profile)
        self.set_config_variable("region", region)
        self.set_default_client_config(
            Config(signature_version=UNSIGNED, user_agent="lab", s3={"addressing_style": "path"})
        )
        self.register("before-send", self._answer)
        self.register("creating-client-class", self._add_virtual_waits)
        self.register("before-parameter-build", self._fill_idempotency_tokens)
        self.register("lab-wait", self._let_pass)

    def lab_options(self) -> dict[str, Any]:
        """What another session needs to reach the same lab as the same caller."""
        return {
            "region": self._lab_region,
            "send": self._lab_send,
            "wait": self._lab_wait,
            "rng": self._lab_rng,
        }

    # clients

    def client(self, service: str, **options: Any) -> Any:
        """The session's one client for a service and options, made at the first call."""
        return cached(self._lab_clients, self.create_client, service, options)

    def create_client(self, *args: Any, **options: Any) -> Any:
        client = super().create_client(*args, **options)
        _retry_in_virtual_time(client, _loader(), self._lab_rng, self._lab_wait)
        client._endpoint.http_session = _NO_NETWORK
        return client

    def boto3(self) -> Any:
        """boto3's view of this session, made once: it registers its customisations on it."""
        if self._lab_boto3 is None:
            self._lab_boto3 = _Boto3Core(botocore_session=self)
        return self._lab_boto3

    # where it does not look

    @property
    def full_config(self) -> dict[str, Any]:
        return {"profiles": {}}

    def get_credentials(self) -> Any:
        return Credentials("lab", "lab", method="lab")

    def get_auth_token(self, **_: Any) -> None:
        return None

    def _add_configured_endpoint_provider(self, client_name: str, config_store: Any) -> None:
        """Endpoints are configured by environment variables and files."""

    def _register_client_plugins(self, client: Any) -> None:
        """Plugins are named by an environment variable."""

    def _resolve_defaults_mode(self, client_config: Any, config_store: Any) -> Any:
        mode = super()._resolve_defaults_mode(client_config, config_store)
        return "in-region" if mode == "auto" else mode  # "auto" asks the metadata service

    # what it is made of

    def _register_data_loader(self) -> None:
        self._components.lazy_register_component("data_loader", _loader)

    def _register_endpoint_resolver(self) -> None:
        self._internal_components.lazy_register_component("endpoint_resolver", _endpoint_resolver)

    def _register_exceptions_factory(self) -> None:
        self._internal_components.lazy_register_component("exceptions_factory", _exceptions_factory)

    def _register_config_store(self) -> None:
        self._components.register_component("config_store", _config_store(self))

    def _register_response_parser_factory(self) -> None:
        super()._register_response_parser_factory()
        factory = self._components.get_component("response_parser_factory")
        factory.set_parser_defaults(timestamp_parser=_parse_timestamp)

    def _register_monitor(self) -> None:
        self._internal_components.register_component("monitor", None)

    def _register_builtin_handlers(self, events: Any) -> None:
        """botocore's own handlers, without those that others put in to answer requests."""
        super()._register_builtin_handlers(events)
        for name, handler, *_ in handlers.BUILTIN_HANDLERS:
            if name.partition(".")[0] == "before-send":
                events.unregister(name, handler)
        events.unregister("before-parameter-build", handlers.generate_idempotent_uuid)

    # what it does at botocore's events

    def _answer(self, request: Any, event_name: str, **_: Any) -> Any:
        return self._lab_send(request, event_name)

    def _add_virtual_waits(self, base_classes: list[type], **_: Any) -> None:
        base_classes.insert(0, self._lab_waits)

    def _fill_idempotency_tokens(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        for name in model.idempotent_members:
            if name not in params:
                bits = self._lab_rng.getrandbits(128)
                params[name] = str(uuid.UUID(int=bits, version=4))

    def _let_pass(self, seconds: float, **_: Any) -> bool:
        """For code that has a client and no clock, and has to wait: see `lab_utils.clock.pause`."""
        self._lab_wait(seconds)
        return True


class _NoNetwork:
    """Stands where a client keeps its connections, so that there never is one."""

    def send(self, request: Any) -> Any:
        raise LabError(
            f"the lab did not answer {request.method} {request.url}, and its clients reach nothing "
            "else: for other services make a client with your own boto3 session"
        )

    def close(self) -> None:
        """There is nothing to close."""


_NO_NETWORK = _NoNetwork()


def make_session(*, region: str, send: Send, wait: Wait, rng: random.Random) -> LabSession:
    """A private session: its clients are answered by `send`, its delays are spent by `wait`."""
    return LabSession(region=region, send=send, wait=wait, rng=rng)


def make_client(session: LabSession, service: str, **options: Any) -> Any:
    """A new client of a lab session; `session.client(service)` gives the shared one."""
    return session.create_client(service, **options)


def cached(
    clients: dict[str, Any], make: Callable[..., Any], service: str, options: dict[str, Any]
) -> Any:
    """`make(service, **options)`, or what it gave before for the same options.

    Options compare by value, a Config too: making a client takes two milliseconds, and handlers
    make theirs anew at every call.
    """
    given = {name: value for name, value in options.items() if value is not None}
    config = given.pop("config", None)
    key = repr((service, sorted(given.items()), config and sorted(vars(config).items())))
    if key not in clients:
        clients[key] = make(service, **options)
    return clients[key]


# --- waiting --------------------------------------------------------------------------------


def _retry_in_virtual_time(client: Any, loader: Any, rng: random.Random, wait: Wait) -> None:
    """Replace the client's retry handler, which sleeps, by one that asks it and waits."""
    service = client.meta.service_model.service_id.hyphenize()
    event, unique_id = f"needs-retry.{service}", f"retry-config-{service}"
    retries = dict(client.meta.config.retries or {})
    client.meta.events.unregister(event, unique_id=unique_id)
    if retries.get("mode") == "adaptive":
        raise LabError(
            "Config(retries={'mode': 'adaptive'}) paces calls by the wall clock, which stands "
            "still in the lab: use 'standard' or 'legacy'"
        )
    make = _standard_retries if retries.get("mode") == "standard" else _legacy_retries
    handler = make(client, loader, retries, rng, wait)
    client.meta.events.register(event, _unless_well(handler, service), unique_id=unique_id)


def _unless_well(handler: Any, service: str) -> Any:
    """Ask about retries only where an answer could want one; S3 hides errors behind a 200."""
    if service == "s3":
        return handler

    def needs_retry(response: Any, **event: Any) -> Any:
        if response is not None and response[0].status_code < 300:
            return None
        return handler(response=response, **event)

    return needs_retry


def _legacy_retries(
    client: Any, loader: Any, retries: dict[str, Any], rng: random.Random, wait: Wait
) -> Any:
    """botocore's legacy mode: its own list of what is retried and how often, our delays."""
    if "total_max_attempts" in retries:
        retries["max_attempts"] = retries.pop("total_max_attempts") - 1
    prefix = client.meta.service_model.endpoint_prefix
    data = loader.load_data("_retry")
    config = build_retry_config(prefix, data["retry"], data["definitions"], retries)
    delay = config["__default__"]["delay"]

    def wait_before(attempts: int) -> int:
        base = rng.random() if delay["base"] == "rand" else delay["base"]
        wait(base * delay["growth_factor"] ** (attempts - 1))
        return 0

    checker = create_checker_from_retry_config(config, operation_name=prefix)
    return RetryHandler(checker=checker, action=wait_before)


def _standard_retries(
    client: Any, loader: Any, retries: dict[str, Any], rng: random.Random, wait: Wait
) -> Any:
    """botocore's standard mode, with its conditions, its quota and its (seeded) back-off."""
    attempts = retries.get("total_max_attempts") or standard.DEFAULT_MAX_ATTEMPTS
    checker = standard.RetryQuotaChecker(quota.RetryQuota())
    handler = standard.RetryHandler(
        retry_policy=standard.RetryPolicy(
            retry_checker=standard.StandardRetryConditions(max_attempts=attempts),
            retry_backoff=standard.ExponentialBackoff(random=rng.random),
        ),
        retry_event_adapter=standard.RetryEventAdapter(),
        retry_quota=checker,
    )
    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"after-call.{service}", checker.release_retry_quota)

    def needs_retry(**event: Any) -> int | None:
        delay = handler.needs_retry(**event)
        if delay is None:
            return None
        wait(delay)
        return 0

    return needs_retry


class _VirtualWaits:
    """Added to the bases of a lab's client classes: their waiters wait in virtual time."""

    lab_wait: Wait

    def get_waiter(self, waiter_name: str) -> Any:
        usual = super().get_waiter(waiter_name)  # type: ignore[misc]
        operation = NormalizedOperationMethod(getattr(self, xform_name(usual.config.operation)))
        kind = type(usual)
        waiting = type(
            kind.__name__, (_VirtualWaiter, kind), {"lab_wait": staticmethod(self.lab_wait)}
        )
        return waiting(usual.name, usual.config, operation)


class _VirtualWaiter(Waiter):  # type: ignore[misc]
    """botocore's waiter with its pauses moved in front of each call but the first."""

    lab_wait: Wait

    def wait(self, **kwargs: Any) -> None:
        config = dict(kwargs.pop("WaiterConfig", {}))
        pause, asked = config.get("Delay", self.config.delay), False

        def ask(**params: Any) -> Any:
            nonlocal asked
            if asked:
                self.lab_wait(pause)
            asked = True
            return self._operation_method(**params)

        paced = Waiter(self.name, self.config, ask)
        paced.wait(**kwargs, WaiterConfig={**config, "Delay": 0})


# --- boto3 ----------------------------------------------------------------------------------


class _Boto3Core(boto3.session.Session):  # type: ignore[misc]
    """boto3's session over a lab's, without adding boto3's data path once per session."""

    def _setup_loader(self) -> None:
        self._loader = self._session.get_component("data_loader")


class Boto3Session(boto3.session.Session):  # type: ignore[misc]
    """What a handler gets for `boto3.Session`: cached clients of the function's own session.

    Keys, tokens and endpoints that code passes are accepted and of no effect, as there is one lab
    and the caller is known.
    """

    lab_session: LabSession
    lab_clients: dict[str, Any]

    def __init__(
        self,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        region_name: str | None = None,
        botocore_session: Any = None,
        profile_name: str | None = None,
        aws_account_id: str | None = None,
    ) -> None:
        session = botocore_session if botocore_session is not None else self.lab_session
        if profile_name is not None:
            session = LabSession(**session.lab_options(), profile=profile_name)
            session.get_scoped_config()  # raises ProfileNotFound: a lab has no profiles
        self._session = session
        self._lab_region = region_name
        core = session.boto3()
        self.resource_factory, self._loader = core.resource_factory, core._loader

    @property
    def region_name(self) -> Any:
        return self._lab_region or self._session.get_config_variable("region")

    def __repr__(self) -> str:
        return f"Session(region_name={self.region_name!r})"

    def _cache_for(self, kind: str) -> dict[str, Any]:
        own = self._session is self.lab_session
        holder = self.lab_clients if own else self.__dict__
        found: dict[str, Any] = holder.setdefault(f"_lab_{kind}", {})
        return found

    def client(
        self, service_name: str, region_name: str | None = None, *args: Any, **options: Any
    ) -> Any:
        options.update(zip(_CLIENT_OPTIONS, args, strict=False))
        options["region_name"] = region_name or self._lab_region
        return cached(self._cache_for("clients"), super().client, service_name, options)

    def resource(
        self, service_name: str, region_name: str | None = None, *args: Any, **options: Any
    ) -> Any:
        options.update(zip(_CLIENT_OPTIONS, args, strict=False))
        options["region_name"] = region_name or self._lab_region
        return cached(self._cache_for("resources"), super().resource, service_name, options)


_CLIENT_OPTIONS = (
    "api_version",
    "use_ssl",
    "verify",
    "endpoint_url",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "config",
)


# --- the net under it all -------------------------------------------------------------------

Router = Callable[[Any, str], Any]
"""Answers (request, event name) if a guest is running, else None."""


class Guest(Protocol):
    """Code that runs inside the lab: what it sends is for its lab."""

    def send(self, request: Any, event_name: str) -> Any: ...


_routers: list[Router] = []


def _ask_routers(request: Any, event_name: str, **_: Any) -> Any:
    """botocore's 'before-send' for sessions that are not the lab's: usually no opinion."""
    answers = (router(request, event_name) for router in _routers)
    return next((answer for answer in answers if answer is not None), None)


_NET = ("before-send", _ask_routers)


def make_router(current_guest: Callable[[], Guest | None]) -> Router:
    """A router that hands what is sent while a guest runs to the guest's lab.

    A library that a handler uses may make its clients with the real boto3.
    """

    def router(request: Any, event_name: str) -> Any:
        guest = current_guest()
        return None if guest is None else guest.send(request, event_name)

    return router


def install_router(router: Router) -> None:
    """Let every botocore session made from now on ask `router` before it sends; once is enough."""
    if router not in _routers:
        _routers.append(router)
    if _NET not in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.append(_NET)


def remove_router(router: Router) -> None:
    """Forget `router`; with the last one the net itself is taken out of botocore's list."""
    if router in _routers:
        _routers.remove(router)
    if not _routers and _NET in handlers.BUILTIN_HANDLERS:
        handlers.BUILTIN_HANDLERS.remove(_NET)
