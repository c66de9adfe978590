"""Compiles a unit of CUDA kernels to a fat binary: PTX by NVRTC, cubins of it by ptxas, both packed by nvFatbin. All
three are of PyPI's wheels: no CUDA toolkit.

    python compile_cuda.py UNIT --include CSRC --out FOLDER --architectures 75 80 --compress-mode size

UNIT is a .cu file, or a rule header, of which the kernels of all its rules are made. It writes FOLDER/UNIT.fatbin, and
what it was made of: FOLDER/UNIT.ptx, and for each architecture FOLDER/UNIT.sm_75.cubin and, as FOLDER/UNIT.sm_75.ptxas,
what `ptxas -v` says of it.
"""

import argparse
import ctypes
import hashlib
import importlib.util
import pathlib
import re
import subprocess
import sys

# What the PTX is for: the oldest that the kernels compile for, since `__grid_constant__` needs it. Devices run it that
# no cubin is for.
PTX_ARCHITECTURE = 70

# The kernels' arithmetic is that of the CPU kernels: no contraction of multiply-adds, divisions and roots rounded
# correctly, denormals kept. Memory is the limit, so nothing would be gained.
OPTIONS = (
    f"--gpu-architecture=compute_{PTX_ARCHITECTURE}",
    "--std=c++17",
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--device-as-default-execution-space",
    # NVRTC has the types and functions of these, and no headers.
    "--no-source-include",
)
STANDARD_HEADERS = {
    "cstdint": """
        typedef signed char int8_t;
        typedef unsigned char uint8_t;
        typedef short int16_t;
        typedef unsigned short uint16_t;
        typedef int int32_t;
        typedef unsigned int uint32_t;
        typedef long long int64_t;
        typedef unsigned long long uint64_t;
        typedef unsigned long long uintptr_t;
    """,
    "cstring": "",
}


def package(name: str) -> pathlib.Path:
    """The folder of an NVIDIA wheel."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        if (pathlib.Path(folder) / name).is_dir():
            return pathlib.Path(folder) / name
    sys.exit(f"the package nvidia-{name.replace('_', '-')}-cu12 is not installed for {sys.executable}")


def ptxas() -> str:
    """The path of ptxas."""
    return str(package("cuda_nvcc") / "bin" / "ptxas")


class Nvrtc:
    """libnvrtc, with its errors as exceptions."""

    def __init__(self):
        self._library = ctypes.CDLL(str(package("cuda_nvrtc") / "lib" / "libnvrtc.so.12"))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        self._use_locale = ctypes.CDLL(None).uselocale
        self._use_locale.restype = ctypes.c_void_p
        self._use_locale.argtypes = (ctypes.c_void_p,)

    def _call(self, name, *arguments):
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name}: {self._library.nvrtcGetErrorString(code).decode()}")

    def _text(self, program, size, text):
        n = ctypes.c_size_t()
        self._call(size, program, ctypes.byref(n))
        buffer = ctypes.create_string_buffer(n.value)
        self._call(text, program, buffer)
        return buffer.value.decode()

    def compile(self, source: str, name: str, options) -> str:
        """The PTX of a source. Exits with the log if it does not compile, or gives a warning."""
        program = ctypes.c_void_p()
        headers = [text.encode() for text in STANDARD_HEADERS.values()]
        names = [header.encode() for header in STANDARD_HEADERS]
        array = ctypes.c_char_p * len(headers)
        self._call(
            "nvrtcCreateProgram",
            *(ctypes.byref(program), source.encode(), name.encode(), len(headers), array(*headers), array(*names)),
        )
        options = [option.encode() for option in options]
        # NVRTC leaves the calling thread in the locale "C", where Python takes text for ASCII from then on.
        locale = self._use_locale(None)
        failed = self._library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        self._use_locale(locale)
        log = self._text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog").strip()
        if failed or log:
            sys.exit(f"{log}\n{name} was not compiled")
        return self._text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")


def rule_source(header: str, num_rules: int) -> str:
    """The kernels of the rules of a header, which is called by its name without `.h`."""
    kernels = "".join(f"FUSEMIN_RULE_KERNELS({header}, {index})\n" for index in range(num_rules))
    return f'#include "backends/cuda/step.cuh"\n#include "rules/{header}.h"\n\n{kernels}'


def count_rules(header: str, options) -> int:
    """How many rules a header has, as the compiler says it: names of kernels are made by the preprocessor, which cannot
    count them."""
    count = f"fusemin::cuda::RuleCount<fusemin::rules::{header}::Rules>::kValue"
    source = rule_source(header, 0) + f'extern "C" {{ __device__ int num_rules = {count}; }}\n'
    found = re.search(r"\bnum_rules = (\d+);", Nvrtc().compile(source, f"{header}.cu", options))
    return int(found[1])


def pack(fatbin: pathlib.Path, ptx: pathlib.Path, cubins: dict[int, pathlib.Path], compress_mode: str) -> None:
    """Makes a fat binary of PTX and cubins by architecture, all compressed: the driver chooses and decompresses."""
    library = ctypes.CDLL(str(package("nvfatbin") / "lib" / "libnvfatbin.so.12"))
    library.nvFatbinGetErrorString.restype = ctypes.c_char_p

    def call(name, *arguments):
        code = getattr(library, name)(*arguments)
        if code:
            sys.exit(f"{fatbin.name}: {name}: {library.nvFatbinGetErrorString(code).decode()}")

    handle, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = (ctypes.c_char_p * 2)(b"-compress-all", f"-compress-mode={compress_mode}".encode())
    call("nvFatbinCreate", ctypes.byref(handle), options, ctypes.c_size_t(len(options)))
    name = fatbin.stem.encode()
    text = ptx.read_bytes() + b"\0"
    call("nvFatbinAddPTX", handle, text, ctypes.c_size_t(len(text)), b"%d" % PTX_ARCHITECTURE, name, None)
    for architecture, cubin in cubins.items():
        code = cubin.read_bytes()
        call("nvFatbinAddCubin", handle, code, ctypes.c_size_t(len(code)), b"%d" % architecture, name)
    call("nvFatbinSize", handle, ctypes.byref(size))
    packed = ctypes.create_string_buffer(size.value)
    call("nvFatbinGet", handle, packed)
    call("nvFatbinDestroy", ctypes.byref(handle))
    fatbin.write_bytes(packed.raw)


def assemble(ptx: pathlib.Path, architecture: int) -> pathlib.Path:
    """Makes the cubin beside the PTX, and `.ptxas`, what ptxas says of the resources of each kernel. What was made of
    the same PTX by the same ptxas stays: a header that all units include may change without any of them changing."""
    cubin, report, made_of = (ptx.with_suffix(f".sm_{architecture}.{kind}") for kind in ("cubin", "ptxas", "made_of"))
    command = [ptxas(), f"-arch=sm_{architecture}", "-O3", "--verbose", "-o", str(cubin), str(ptx)]
    version = subprocess.run([ptxas(), "--version"], capture_output=True, check=True).stdout
    key = hashlib.sha256(ptx.read_bytes() + version + " ".join(command[1:4]).encode()).hexdigest()
    if cubin.exists() and report.exists() and made_of.exists() and made_of.read_text(encoding="utf-8") == key:
        return cubin
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    report.write_text(done.stdout, encoding="utf-8")
    made_of.write_text(key)
    return cubin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unit", type=pathlib.Path)
    parser.add_argument("--include", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--architectures", type=int, nargs="*", default=[])
    parser.add_argument("--compress-mode", choices=("size", "balance", "speed"), required=True)
    arguments = parser.parse_args()
    stem = arguments.unit.stem
    options = (*OPTIONS, f"--include-path={arguments.include}")
    ptx = arguments.out / f"{stem}.ptx"
    if arguments.unit.suffix == ".h":
        source = rule_source(stem, count_rules(stem, options))
    else:
        source = arguments.unit.read_text(encoding="utf-8")
    ptx.write_text(Nvrtc().compile(source, f"{stem}.cu", options), encoding="utf-8")
    cubins = {architecture: assemble(ptx, architecture) for architecture in arguments.architectures}
    pack(arguments.out / f"{stem}.fatbin", ptx, cubins, arguments.compress_mode)


if __name__ == "__main__":
    main()
