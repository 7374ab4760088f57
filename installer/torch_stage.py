"""The stage of set-up that installs PyTorch."""

import platform
from dataclasses import dataclass

from installer.console import Console
from installer.environment import Environment
from installer.failures import NetworkFailedError
from installer.hardware import probe_machine
from installer.pip import Pip
from installer.preflight import check_space
from installer.torch_build import TorchChoice, choose_torch_build, kind_of_label, runs_here
from installer.torch_index import (
    IndexUnreachableError,
    Target,
    index_url,
    newest_version,
    read_index,
)
from installer.versions import local_label, satisfies


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchPlan:
    """What is to be done about PyTorch.

    Attributes:
        choice: The build that suits the machine.
        specifier: Versions that Headroom works with.
        is_present: Whether a build that will do is installed already.
    """

    choice: TorchChoice
    specifier: str
    is_present: bool


def plan_torch(env: Environment, *, specifier: str, choice: TorchChoice | None) -> TorchPlan:
    """Look at the machine and at what is installed.

    Args:
        env: The environment, which may not exist yet.
        specifier: Versions that Headroom works with.
        choice: The build the user asked for; None to choose by the machine.
    """
    chosen = choice or choose_torch_build(probe_machine())
    installed = env.installed_version("torch")
    return TorchPlan(
        choice=chosen,
        specifier=specifier,
        is_present=satisfies(installed, specifier)
        and suits(installed, chosen, was_asked_for=choice is not None),
    )


def suits(installed: str, choice: TorchChoice, *, was_asked_for: bool) -> bool:
    """Whether an installed build, like "2.13.0+cu130", need not be replaced."""
    if not installed:
        return False
    label = local_label(installed)
    if was_asked_for:
        return label in choice.indexes
    return runs_here(label, choice, system=platform.system())


def install_torch(pip: Pip, plan: TorchPlan, console: Console) -> str:
    """Install the build, from PyTorch's index or else from the general one.

    Returns:
        Why it is this build, in words.

    Raises:
        SetupFailedError: Neither worked.
    """
    if plan.is_present:
        return plan.choice.reason
    console.detail("asking PyTorch's wheel index")
    try:
        found = _find(pip.env, plan)
    except IndexUnreachableError:
        return _without_index(pip, plan, console, "PyTorch's wheel index cannot be reached")
    if found is None:
        why = "PyTorch's wheel index has no build for this Python"
        return _without_index(pip, plan, console, why)
    index, version = found
    try:
        pip.install(
            f"torch=={version}", "--index-url", index_url(index), doing="installing PyTorch"
        )
    except NetworkFailedError:
        return _without_index(pip, plan, console, "PyTorch's wheel index broke off")
    return plan.choice.reason


def _find(env: Environment, plan: TorchPlan) -> tuple[str, str] | None:
    """Index and version of the best build there is."""
    major, minor = env.python_version.split(".")[:2]
    target = Target(
        python_tag=f"cp{major}{minor}", system=platform.system(), machine=platform.machine()
    )
    for index in plan.choice.indexes:
        version = newest_version(read_index(index), target=target, specifier=plan.specifier)
        if version:
            return index, version
    return None


def _without_index(pip: Pip, plan: TorchPlan, console: Console, why: str) -> str:
    installed = pip.env.installed_version("torch")
    if satisfies(installed, plan.specifier) and installed:
        # Not the best build for this machine, but one that works, at least on the processor.
        console.say(f"  {why}; keeping the installed PyTorch {installed}.")
        return f"{plan.choice.reason}, but {why}"
    console.say(f"  {why}; installing the general build instead.")
    # On Linux that is the CUDA build, whatever the machine has, and several times as large.
    check_space(pip.env, kind_of_label("", system=platform.system()))
    pip.install(f"torch{plan.specifier}", doing="installing PyTorch")
    return f"{plan.choice.reason}; general build, for {why}"
