"""How the transformer's blocks are computed in a run: by which attention, and compiled or not."""

import contextlib
from collections.abc import Generator
from dataclasses import replace

import torch

from app.core.events import Notice
from app.core.jobs import Job
from app.core.plan import GenerationPlan
from app.core.policy import Precision
from app.engine.attention.dispatch import use_attention
from app.engine.attention.shape import trial_shape
from app.engine.devices import run_dtype
from app.engine.loader import LoadedModel
from app.engine.model_components import TransformerConfig
from app.engine.model_folder import ModelInfo
from app.engine.model_json import convert_config, read_json
from app.engine.residency.blocks import streamable_blocks
from app.engine.run.context import RunContext

ATTENTION_CODE = "attention.replaced"
COMPILE_CODE = "compile.off"


def with_attention(context: RunContext, info: ModelInfo) -> Job:
    """The run's job, with the kind of attention that it will use in its policy."""
    job = context.job
    if job.policy.precisions.transformer is Precision.FP32:
        dtype = torch.float32
    else:
        dtype = run_dtype(context.device.torch_device, torch.bfloat16)
    path = info.folder / "transformer" / "config.json"
    config = convert_config(read_json(path), TransformerConfig, path)
    shape = trial_shape(
        job.request,
        heads=config.num_attention_heads,
        head_width=config.attention_head_dim,
        dtype=str(dtype).removeprefix("torch."),
    )
    choice = context.tools.attention.choose(job.policy.attention, shape)
    if choice.problem:
        context.send(Notice(job_id=job.id, code=ATTENTION_CODE, message=choice.problem))
    return replace(job, policy=replace(job.policy, attention=choice.kind))


@contextlib.contextmanager
def fast_blocks(context: RunContext, model: LoadedModel, plan: GenerationPlan) -> Generator[None]:
    """Around denoising steps: attention as planned, blocks compiled when that is wanted."""
    transformer = model.pipeline.transformer
    use_attention(transformer, plan.attention)
    if not context.job.policy.compile:
        yield
        return
    blocks = streamable_blocks("transformer", transformer)
    compiler = context.tools.compiler
    with compiler.compiled(blocks, lambda said: _tell(context, said), check=context.cancel.check):
        yield


def _tell(context: RunContext, sentence: str) -> None:
    context.send(Notice(job_id=context.job.id, code=COMPILE_CODE, message=sentence))
