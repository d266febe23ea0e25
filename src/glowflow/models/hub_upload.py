"""A folder to the Hugging Face hub, in one commit that is there whole or not at all."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, get_session, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ..checks import require
from ..errors import GlowflowError, InputError
from .hub import LOG_IN, PATIENCE, Hub, download, of_status, said

Answer = TypeVar("Answer")
SILENCE = 6
"""How long the hub may be silent while it is sent to, in HF_HUB_ETAG_TIMEOUT (10 s)."""


def upload(
    folder: Path,
    repo: str,
    *,
    is_ours: Callable[[Path], bool],
    replaced: Sequence[str],
    token: str | None = None,
    private: bool | None = None,
    branch: str | None = None,
    commit_message: str,
    create_pr: bool = False,
) -> str:
    """Make the repository, if there is none, and commit the folder's files to it.

    Args:
        folder: what is sent, all of it.
        repo: organisation/name.
        is_ours: whether a config.json is of a model of this package, which a new one may follow.
        replaced: names of files that go if the folder has them no more.
        token: that may write; by default that of `hf auth login` or HF_TOKEN.
        private: whether a new repository is; by default as the organisation has it.
        branch: to commit to; made if there is none; by default main.
        commit_message: of the commit.
        create_pr: open a pull request instead.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        InputError: the name or the token will not do, the repository holds something else or is
            public and should not be, or the hub refuses, is silent or fails.
    """
    check_upload(repo, branch=branch, commit_message=commit_message, create_pr=create_pr)
    require(not constants.HF_HUB_OFFLINE, "HF_HUB_OFFLINE is set: unset it to push.")
    require(bool(token or get_token()), f"There is no token for the hub: {LOG_IN} that may write.")
    api = HfApi(token=token)
    holds = _asked(repo, "read", lambda: _look(api, repo))
    if holds is None:
        _asked(repo, "make", lambda: api.create_repo(repo, private=private, exist_ok=True))
    else:
        _check_free(repo, holds, token, private, is_ours)
    if branch not in (None, constants.DEFAULT_REVISION):
        _asked(repo, "write to", lambda: api.create_branch(repo, branch=branch, exist_ok=True))
    made = " (the repository has been made)" if holds is None else ""
    commit = _asked(
        repo,
        "write to",
        lambda: api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message=commit_message,
            revision=branch,
            create_pr=create_pr,
            delete_patterns=list(replaced),
        ),
        f"nothing was committed to {repo}{made}",
    )
    return str(commit.pr_url if create_pr else commit.commit_url)


def check_upload(repo: str, *, branch: str | None, commit_message: str, create_pr: bool) -> None:
    """Refuse what no hub would take, without asking one; args as of `upload`.

    Raises:
        InputError: the name, the branch or the message will not do.
    """
    organisation, _, name = repo.partition("/")
    require(bool(organisation and name), f"{repo!r} is no name on the hub: give organisation/name.")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no name on the hub ({said(error)}).") from error
    require(bool(commit_message.strip()), "commit_message is empty: say what is new.")
    require(
        not (create_pr and branch not in (None, constants.DEFAULT_REVISION)),
        f"A pull request goes to main, and not to {branch}: leave one of them out.",
    )
    plain = branch is None or re.fullmatch(r"[\w][\w./-]*(?<![./])", branch)
    require(
        bool(plain) and ".." not in str(branch),
        f"{branch!r} is no name of a branch: give letters, digits, dots and dashes.",
    )


def _look(api: HfApi, repo: str) -> Any:
    """What the hub says of a repository; None where there is none, or none that can be seen."""
    try:
        return api.model_info(repo, timeout=PATIENCE[-1] * constants.HF_HUB_ETAG_TIMEOUT)
    except RepositoryNotFoundError:
        return None


def _check_free(
    repo: str, holds: Any, token: str | None, private: bool | None, is_ours: Callable[[Path], bool]
) -> None:
    """Refuse to put a model over something else, or what is private where all can see it."""
    if private is not None and bool(holds.private) is not private:
        kind = "private" if holds.private else "public"
        raise InputError(
            f"{repo} exists and is {kind}: leave private out, or change that on the hub first."
        )
    names = {file.rfilename for file in holds.siblings or ()} - {".gitattributes", "README.md"}
    if not names:
        return
    ours = False
    if "config.json" in names:
        with tempfile.TemporaryDirectory() as cache:
            hub = Hub(token=token, cache_dir=cache)
            ours = is_ours(download(repo, "config.json", hub, f"{repo} cannot be read"))
    if not ours:
        raise InputError(
            f"{repo} exists and holds something else ({', '.join(sorted(names)[:3])}): choose "
            "another name."
        )


def _asked(repo: str, what: str, call: Callable[[], Answer], otherwise: str = "") -> Answer:
    """What the hub answers; its refusals, its silence and its faults in a sentence."""
    try:
        with _no_endless_silence():
            return call()
    except GlowflowError:
        raise
    except Exception as error:  # of the hub, its library or the network
        sentence = of_status(error, f"{what} {repo}")
        if sentence is None:
            sentence = f"The hub did not let {repo} be pushed ({said(error)}): try again."
            if _was_committing(error):
                otherwise = f"whether it was committed to {repo} is not known, look there first"
        if otherwise:
            sentence = f"{sentence.rstrip('.')}; {otherwise}."
        raise InputError(sentence) from error


@contextmanager
def _no_endless_silence() -> Iterator[None]:
    """End a request at which nothing moves, which the library by itself waits for for ever."""
    client: Any = get_session()
    before = getattr(client, "timeout", None)
    client.timeout = SILENCE * constants.HF_HUB_ETAG_TIMEOUT
    try:
        yield
    finally:
        client.timeout = before


def _was_committing(error: Exception) -> bool:
    """Whether the request without an answer was the one that commits."""
    try:
        return "/commit/" in str(error.request.url)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):  # of other errors, or of a request that was not made
        return False
