"""The stages of set-up; each finds out by itself what is left to do."""

import platform
import subprocess
from dataclasses import replace

from installer import environment as environments
from installer import preflight, system_libraries
from installer.console import Console
from installer.environment import Environment
from installer.failures import SetupFailedError, os_failure
from installer.lock import setup_lock
from installer.pip import Pip, remove_log, upgrade_pip
from installer.project import Project
from installer.stamp import RUNTIME, Stamp, is_complete, read_stamp, remove_stamp, write_stamp
from installer.torch_build import TorchChoice, TorchKind, kind_of_label
from installer.torch_stage import install_torch, plan_torch
from installer.versions import local_label

# Imports what is big and built for a certain machine, and says what it computes on. A GPU is there
# for it, too, when it has no kernels for it.
_TRY_TORCH = """
import torch
found = "the processor"
for kind in ("cuda", "xpu"):
    if getattr(torch, kind).is_available():
        try:
            torch.ones(1, device=kind).add_(1).item()
        except RuntimeError:
            continue
        found = getattr(torch, kind).get_device_name(0)
        break
print(torch.__version__, found)
"""
_PROCESSOR = "the processor"
_GPU_REMEDIES: dict[TorchKind, str] = {
    "cuda": "restart the computer, and install the newest NVIDIA driver if that does not help",
    "rocm": "see that you are in the groups `render` and `video`, and log in again after joining",
    "xpu": "install Intel's newest GPU driver, under Linux with its Level Zero runtime",
}


def set_up(
    env: Environment,
    project: Project,
    console: Console,
    *,
    extra: str,
    choice: TorchChoice | None = None,
    is_forced: bool = False,
) -> Stamp:
    """Make the environment complete.

    Args:
        env: The environment.
        project: What to install.
        console: Shows the progress.
        extra: Extra to install with it, or `RUNTIME`.
        choice: PyTorch build the user asked for; None to choose by the machine.
        is_forced: Go through all stages even when everything is complete.

    Raises:
        SetupFailedError: It cannot be made complete.
    """
    try:
        preflight.check_writable(env)
        with setup_lock(
            env.folder, on_wait=lambda: console.say("Another set-up is running; waiting for it.")
        ):
            if is_complete(env, project, extra=extra) and not is_forced:
                return read_stamp(env.folder)
            return _run_stages(env, project, console, extra=extra, choice=choice)
    except OSError as error:
        raise os_failure(error, doing="setting up") from error


def _run_stages(
    env: Environment, project: Project, console: Console, *, extra: str, choice: TorchChoice | None
) -> Stamp:
    old = read_stamp(env.folder)
    preflight.check_environment_python(env, specifier=project.python)
    with console.stage("[1/5] Looking at this machine"):
        plan = plan_torch(env, specifier=project.specifier("torch"), choice=choice)
        kind = None if plan.is_present else plan.choice.kind
        preflight.check_space(env, kind)
    console.say(f"  PyTorch for {plan.choice.kind.upper()}: {plan.choice.reason}.")
    # Until the end it counts as unfinished, whatever stops it.
    remove_stamp(env.folder)
    remove_log(env.folder)
    pip = Pip(env, console)
    with console.stage("[2/5] Python environment"):
        if not environments.is_healthy(env):
            _make_environment(env, console)
            upgrade_pip(pip)
        for name in environments.sweep_half_installed(env):
            console.detail(f"removed {name}, which was only half installed")
    with console.stage("[3/5] PyTorch"):
        reason = install_torch(pip, plan, console)
    with console.stage("[4/5] Headroom and its libraries"):
        target = f"{project.root}[{extra}]" if extra else str(project.root)
        pip.install("--editable", target, doing="installing Headroom")
    with console.stage("[5/5] Trying it out"):
        torch_version, device = _try_torch(env)
    console.say(f"  PyTorch {torch_version} computes on {device}.")
    remedy = _GPU_REMEDIES.get(plan.choice.kind, "")
    installed = local_label(env.installed_version("torch"))
    built_for = kind_of_label(installed, system=platform.system())
    if remedy and device == _PROCESSOR and built_for == plan.choice.kind:
        console.say(
            f"  It cannot use the GPU that is there: {remedy}; "
            "then run `python -m installer setup`."
            if choice is None
            # Who asks for a build may know better than this machine tells, or have no GPU at all.
            else f"  It finds no GPU that it can use; if there is one, {remedy}."
        )
    finished = [RUNTIME, extra] if extra else [RUNTIME]
    fingerprints = {
        name: project.fingerprint(extra=name, python_version=env.python_version)
        for name in dict.fromkeys(finished)
    }
    stamp = Stamp(
        # What an earlier `test` installed is still there, and still right if its print matches.
        fingerprints={**old.fingerprints, **fingerprints},
        torch_version=torch_version,
        torch_reason=reason,
        has_system_libraries=False,
    )
    write_stamp(env.folder, stamp)
    return stamp


def ensure_system_libraries(env: Environment, console: Console) -> str:
    """See that Qt finds its libraries; install them when that needs no password.

    Returns:
        The sentence with the command to type; empty when nothing is missing.
    """
    stamp = read_stamp(env.folder)
    if stamp.has_system_libraries:
        return ""
    missing = system_libraries.find_missing()
    manager = system_libraries.package_manager()
    if missing and manager is not None and system_libraries.is_root():
        with console.stage("Qt's system libraries"):
            packages = system_libraries.packages_for(manager, missing)
            system_libraries.install_packages(
                manager, packages, console=console, log=Pip(env, console).log
            )
        missing = system_libraries.find_missing()
    if missing:
        return system_libraries.advice(manager, missing)
    write_stamp(env.folder, replace(stamp, has_system_libraries=True))
    return ""


def _make_environment(env: Environment, console: Console) -> None:
    if not environments.can_create():
        # Debian and Ubuntu split this off; with the right to install it, that is no obstacle.
        manager = system_libraries.package_manager()
        if manager is not None and manager.program == "apt-get" and system_libraries.is_root():
            console.detail("installing Python's venv part")
            system_libraries.install_packages(
                manager,
                (environments.venv_package(),),
                console=console,
                log=Pip(env, console).log,
            )
    environments.create(env)


def _try_torch(env: Environment) -> tuple[str, str]:
    """Version of PyTorch, and what it computes on.

    Raises:
        SetupFailedError: It does not start.
    """
    command = [str(env.python), "-c", _TRY_TORCH]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=env.folder)
    if result.returncode == 0:
        version, _, device = result.stdout.strip().partition(" ")
        return version, device
    output = result.stderr.strip()
    if "WinError 126" in output or "WinError 1114" in output:
        raise SetupFailedError(
            "PyTorch needs the Microsoft Visual C++ Redistributable; install it from "
            "https://aka.ms/vs/17/release/vc_redist.x64.exe and run the same command again."
        )
    reason = output.splitlines()[-1] if output else f"exit code {result.returncode}"
    raise SetupFailedError(
        f"PyTorch was installed but does not start ({reason}); delete {env.folder} and run the "
        "same command again."
    )
