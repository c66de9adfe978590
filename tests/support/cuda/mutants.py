"""Seeded bugs: small patches of the kernels, compiled by NVRTC."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import shutil
from dataclasses import dataclass

from tests.support.cuda import ptx

ROOT = pathlib.Path(__file__).parents[3]
CSRC = ROOT / "csrc"
STEP = "backends/cuda/step.cuh"
SUMS = "backends/cuda/sums.cuh"
MEMORY = "backends/cuda/memory.cuh"


@dataclass(frozen=True)
class Mutant:
    """A bug and what it is to be caught by.

    Attributes:
      file, old, new: the patch; `old` stands in the file exactly once.
      case: a name in `kernel_cases.CASES`, or "past 2^31".
      caught_as: the exception of the check.
      rule: whose kernel is compiled.
      resident_blocks: of the device.
    """

    file: str
    old: str
    new: str
    case: str
    caught_as: type[BaseException]
    rule: str = "adam"
    resident_blocks: int = 528


MUTANTS = {
    "a vector reaches over the tail": Mutant(
        MEMORY,
        "const int64_t whole = chunk.end - (chunk.end - chunk.begin) % kSize;",
        "const int64_t whole = chunk.end;",
        "sizes",
        ptx.OutOfBounds,
    ),
    "the tail is left out": Mutant(MEMORY, "i = whole;\n", "i = whole + kSize;\n", "sizes", AssertionError),
    "beta_2 instead of beta_1": Mutant(
        "rules/adam.h",
        "narrow(wide_one - hyperparameters[1])",
        "narrow(wide_one - hyperparameters[2])",
        "sizes",
        AssertionError,
    ),
    "no barrier in the sum of a block": Mutant(
        SUMS,
        "Add(shared[threadIdx.x], shared[threadIdx.x + width]);\n    __syncthreads();",
        "Add(shared[threadIdx.x], shared[threadIdx.x + width]);",
        "clipnorm",
        ptx.Race,
    ),
    "no barrier before the step is prepared": Mutant(
        STEP,
        "  __syncthreads();\n  if (threadIdx.x == 0) {\n    const int64_t taken",
        "  if (threadIdx.x == 0) {\n    const int64_t taken",
        "sizes",
        ptx.PTXError,
    ),
    "vectors where a tensor is not aligned": Mutant(
        MEMORY,
        "if ((chunk.unaligned & p.aligned_mask) == 0) {",
        "if ((chunk.unaligned & p.aligned_mask) < 255) {",
        "unaligned gradient",
        ptx.Misaligned,
    ),
    "vectors where a row is not aligned": Mutant(
        MEMORY,
        "(chunk.unaligned >> position & 1) == 0",
        "(chunk.unaligned >> position & 1) < 2",
        "unaligned rows",
        ptx.Misaligned,
    ),
    "a row at the wrong offset": Mutant(
        MEMORY,
        "T* to = Global<T>(Address(position));",
        "T* to = Global<T>(Address(position)) + 1;",
        "unaligned rows",
        ptx.PTXError,
    ),
    "a chunk ends one too early": Mutant(
        MEMORY, "chunk.begin + p.chunk;", "chunk.begin + p.chunk - 1;", "sizes", AssertionError
    ),
    "a chunk ends one too late": Mutant(
        MEMORY, "chunk.begin + p.chunk;", "chunk.begin + p.chunk + 1;", "sizes", ptx.OutOfBounds
    ),
    "an index of 32 bits": Mutant(
        MEMORY,
        "static_cast<int64_t>(number - chunk.first) * p.chunk;",
        "static_cast<int32_t>((number - chunk.first) * p.chunk);",
        "past 2^31",
        ptx.OutOfBounds,
        "sgd",
    ),
    "iterations counted twice": Mutant(
        STEP, "return skipped ? old : old + 1.0;", "return skipped ? old : old + 2.0;", "sizes", AssertionError
    ),
    "iterations counted by every block": Mutant(
        STEP,
        "if (!p.finishes || !IsLast(Global<uint32_t>(p.tickets), gridDim.x)) return;",
        "if (!p.finishes) return;",
        "sizes",
        ptx.Race,
    ),
    "tickets that are not zeroed": Mutant(
        SUMS,
        "atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;",
        "atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;",
        "the same tickets again",
        AssertionError,
    ),
    "a block takes one chunk": Mutant(
        MEMORY, "number += gridDim.x", "number += p.num_chunks", "sizes", AssertionError, resident_blocks=3
    ),
    "two blocks take one chunk": Mutant(
        MEMORY, "number += gridDim.x", "number += gridDim.x - 1", "sizes", ptx.Race, resident_blocks=3
    ),
    "no barrier before the next tensor is prepared": Mutant(
        STEP,
        "  // That of the chunk before may still be read.\n  __syncthreads();\n",
        "",
        "clipnorm",
        ptx.Race,
        resident_blocks=1,
    ),
    "the norm of the first tensor of a block for all": Mutant(
        STEP,
        "PrepareTensor<R, V, kOptions>(p, chunk, &prepared);",
        "if (chunk.number == blockIdx.x) PrepareTensor<R, V, kOptions>(p, chunk, &prepared);",
        "clipnorm, many tensors",
        AssertionError,
        resident_blocks=3,
    ),
    "a norm without the last chunk": Mutant(
        SUMS,
        "i < chunk.count; i += kThreads",
        "i + 1 < chunk.count; i += kThreads",
        "clipnorm, many chunks",
        AssertionError,
    ),
    "a global norm without the last tensor": Mutant(
        SUMS,
        "i < p.num_step_tensors; i += kThreads",
        "i + 1 < p.num_step_tensors; i += kThreads",
        "global_clipnorm, many tensors",
        AssertionError,
    ),
    "the norm of the first tensor for all": Mutant(
        STEP,
        "Global<const Sums>(p.gradient_sums)[tensor].first",
        "Global<const Sums>(p.gradient_sums)[p.first_tensor].first",
        "clipnorm, many tensors",
        AssertionError,
    ),
    "old values are read from where new ones go": Mutant(
        STEP,
        "    Values param = at.Load(kParamIn);\n    if (kOptions",
        "    Values param = at.Load(kParamOut);\n    if (kOptions",
        "out of place",
        AssertionError,
    ),
    "new values are stored where old ones are": Mutant(
        STEP,
        "!at.InPlace(kParamIn, kParamOut)) at.Store(kParamOut, param);",
        "!at.InPlace(kParamIn, kParamOut)) at.Store(kParamIn, param);",
        "out of place",
        AssertionError,
    ),
    "every parameter decays": Mutant(
        "options/weight_decay.h",
        "OptionTensors::kDecays",
        "OptionTensors::kNone",
        "weight_decay",
        AssertionError,
    ),
    "the row has the parameter before the average replaces it": Mutant(
        STEP,
        "            param = average;\n",
        "            at.StoreRow(kParamRow, param);\n            return at.Store(kParamOut, average);\n",
        "ema overwrites",
        AssertionError,
    ),
    "a step that is skipped counts": Mutant(
        STEP, "return skipped ? old : old + 1.0;", "return old + 1.0;", "dynamic loss scale, infinity", AssertionError
    ),
    "LAMB's ratio is of the first tensor": Mutant(
        STEP,
        "Global<const Sums>(p.rule_sums())[tensor];",
        "Global<const Sums>(p.rule_sums())[p.first_tensor];",
        "sizes",
        AssertionError,
        "lamb",
    ),
}


def missing() -> str:
    """Why no mutant can be compiled here, or ""."""
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else ()
    if any((pathlib.Path(folder) / "cuda_nvrtc").is_dir() for folder in folders):
        return ""
    return "the package nvidia-cuda-nvrtc-cu12, which compiles mutants, is not installed"


@functools.cache
def compiler():
    spec = importlib.util.spec_from_file_location("compile_cuda", ROOT / "cmake/compile_cuda.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Rule i of a header and the name of its header, of those that mutants are made of.
RULES = {"adam": ("adam", 0), "lamb": ("lamb", 0), "sgd": ("sgd", 0)}


@functools.cache
def compile_rule(csrc: pathlib.Path, rule: str, common: bool) -> str:
    """PTX of the float32 kernels of one rule, and those of no rule if `common`, from a copy of csrc."""
    header, index = RULES[rule]
    source = [f'#include "backends/cuda/step.cuh"\n#include "rules/{header}.h"\n']
    source += [
        f"FUSEMIN_STEP_KERNEL({header}_{index}_float32_{kind}, 256, 4, {header}, {index}, float, {options})\n"
        for kind, options in (("plain", "false"), ("options", "true"))
    ]
    if common:
        text = (csrc / "backends/cuda/common.cu").read_text(encoding="utf-8")
        source.append(text.split("FUSEMIN_SUM_KERNEL(float64")[0])
    options = (*compiler().OPTIONS, f"--include-path={csrc}")
    return compiler().Nvrtc().compile("".join(source), f"{rule}.cu", options)


def patched(folder: pathlib.Path, mutant: Mutant) -> pathlib.Path:
    """A copy of csrc with the bug."""
    copy = folder / "csrc"
    shutil.copytree(CSRC, copy)
    text = (copy / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} has {mutant.old!r} {text.count(mutant.old)} times: the mutant is out of date")
    (copy / mutant.file).write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    return copy
