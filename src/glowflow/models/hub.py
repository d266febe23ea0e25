"""The Hugging Face hub: files of a model from it, and a folder to it, by huggingface_hub."""

import re
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..errors import CheckpointError
from ..files import path_of

PATIENCE = (1, 2)
"""How long the hub has for an answer, one attempt after another, in HF_HUB_ETAG_TIMEOUT (10 s)."""
COMMIT = re.compile(r"[0-9a-f]{40}")
LOG_IN = "log in with `hf auth login`, set HF_TOKEN, or give a token"


@dataclass(frozen=True)
class Hub:
    """How a model is asked for, as huggingface_hub's users know it."""

    revision: str | None = None
    """Branch, tag or commit; the branch main by default."""
    token: str | bool | None = None
    """By default that of `hf auth login` or HF_TOKEN; False sends none."""
    cache_dir: str | Path | None = None
    """Where files are kept; by default the cache that other libraries use too."""
    local_files_only: bool = False
    """Take what is kept, and ask nobody."""

    def of_commit(self, file: Path) -> "Hub":
        """The same for the commit that a downloaded file is of."""
        commit = file.parent.name
        return replace(self, revision=commit) if COMMIT.fullmatch(commit) else self


def is_hub_id(source: str | Path) -> bool:
    """Whether a name can be organisation/name, and its first part is no folder here."""
    text = str(source)
    organisation, slash, name = text.partition("/")
    plain = slash and name and "/" not in name and not text.startswith((".", "/", "~"))
    return bool(plain) and not path_of(organisation).is_dir()


def download(repo: str, name: str, hub: Hub, otherwise: str) -> Path:
    """A file of a model of the hub, from the cache where it is of the newest commit.

    A hub that is silent, or has no address here, is asked no longer than `PATIENCE`; then what is
    kept is taken.

    Args:
        repo: organisation/name.
        name: of the file.
        hub: how to ask.
        otherwise: what else the name could have been, for the message of an error.

    Raises:
        CheckpointError: there is no such model, revision or file, or no right to read it, or the
            hub does not answer and nothing is kept.
    """
    cache = None if hub.cache_dir is None else path_of(hub.cache_dir)
    revision = hub.revision or constants.DEFAULT_REVISION
    if COMMIT.fullmatch(revision) and (kept := _kept(repo, name, cache, revision)) is not None:
        return kept
    asked = not (hub.local_files_only or constants.HF_HUB_OFFLINE)
    reached = not asked or _has_address()
    silence = _silence(repo, name, revision, hub.token) if asked and reached else None
    try:
        found = hf_hub_download(
            repo,
            name,
            revision=revision,
            token=hub.token,
            cache_dir=cache,
            local_files_only=not asked or not reached or silence is not None,
            etag_timeout=PATIENCE[-1] * constants.HF_HUB_ETAG_TIMEOUT,
        )
    except Exception as error:  # of the hub, its library or the network
        if not asked and isinstance(error, LocalEntryNotFoundError):
            raise CheckpointError(
                f"{otherwise}, and {name} of {_at(repo, hub.revision)} is not kept in "
                f"{cache or constants.HF_HUB_CACHE}: load it once with a network, without "
                "local_files_only and HF_HUB_OFFLINE."
            ) from error
        if silence is None and (sentence := _refusal(repo, name, hub, error, otherwise)):
            raise CheckpointError(sentence) from error
        where = "" if reached else " (it cannot be reached from here)"
        raise CheckpointError(
            f"{otherwise}, and the hub did not give a model of that name{where}: "
            f"{said(silence or error)}."
        ) from error
    return Path(found)


def _kept(repo: str, name: str, cache: Path | None, revision: str) -> Path | None:
    try:
        kept = try_to_load_from_cache(repo, name, cache_dir=cache, revision=revision)
    except (OSError, ValueError):
        return None  # `hf_hub_download` says what is wrong
    return Path(kept) if isinstance(kept, str) else None


def _silence(repo: str, name: str, revision: str, token: str | bool | None) -> Exception | None:
    """Why the hub does not answer; None where it does, be it with a refusal."""
    silence: Exception | None = None
    for patience in PATIENCE:
        timeout = patience * constants.HF_HUB_ETAG_TIMEOUT
        try:
            url = hf_hub_url(repo, name, revision=revision)
            get_hf_file_metadata(url, token=token, timeout=timeout)
        except (HfHubHTTPError, ValueError):
            return None
        except Exception as error:  # of the transport, which is another one from version to version
            silence = error
        else:
            return None
        time.sleep(0.5)
    return silence


def _refusal(repo: str, name: str, hub: Hub, error: Exception, otherwise: str) -> str | None:
    """A sentence for what the hub answers; None where it is no answer."""
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo}"
        return f"{repo} is gated on the hub: ask for access at {page}, and {LOG_IN}."
    if isinstance(error, RepositoryNotFoundError):
        known = hub.token is not False and (hub.token or get_token())
        private = "this token may not read" if known else f"asks for a token: {LOG_IN}"
        return (
            f"{otherwise}, and the hub has no model of that name, or a private one that {private}."
        )
    if isinstance(error, RevisionNotFoundError):
        branch = hub.revision or constants.DEFAULT_REVISION
        return f"{repo} on the hub has no {branch}: give a branch, a tag or a commit of it."
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return (
            f"{_at(repo, hub.revision)} on the hub has no {name}: give a model of glowflow; "
            "weights in files of other kinds are not read."
        )
    return of_status(error, f"read {repo}")


def of_status(error: BaseException | None, what: str) -> str | None:
    """A sentence for the HTTP status behind an error; None where there is none."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            return f"The hub does not let this token {what} ({status}): {LOG_IN} that may."
        if status is not None and (status >= 500 or status == 429):
            return f"The hub is busy or in trouble (it answered {status}): try again later."
        error = error.__cause__
    return None


def _at(repo: str, revision: str | None) -> str:
    return repo if revision is None else f"{repo}@{revision}"


def said(error: Exception) -> str:
    """What the hub's library says, in a line."""
    said = " ".join(str(error.__cause__ or error).split())[:200].rstrip(".")
    return f"{type(error).__name__}, {said}" if said else type(error).__name__


def _has_address() -> bool:
    """False where asking the hub would only be waiting: its name is not known here."""
    host = urlparse(constants.ENDPOINT).hostname
    if host is None or getproxies():
        return True
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True
