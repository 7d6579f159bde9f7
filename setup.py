"""Builds ``sslkernels._C`` with CMake and ninja. Needs no torch and looks for no GPU.

SSLKERNELS_EXTENSION=auto|required  auto (default): without a C++ compiler, install pure Python;
                                    required, for releases: the build fails
SSLKERNELS_CUDA=auto|on|off         auto (default): csrc/cuda if nvcc is found, unless
                                    the installed torch has no CUDA; on: fail without
SSLKERNELS_CUDA_ARCHS="80;90a"      CMake's list of CUDA architectures
CUDA_HOME                           where to look for nvcc, if not on PATH
"""

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEFAULT_ARCHS = "80-real;90a-real;100a-real;120"


def say(message: str) -> None:
    print(f"sslkernels: {message}", file=sys.stderr, flush=True)


def setting(name: str, *values: str) -> str:
    """What the environment variable says; the first value, if it is not set."""
    value = os.environ.get(name, values[0])
    if value not in values:
        raise SystemExit(f"{name} must be {', '.join(values[:-1])} or {values[-1]}; got {value!r}")
    return value


MODE = setting("SSLKERNELS_CUDA", "auto", "on", "off")
IS_REQUIRED = MODE == "on" or setting("SSLKERNELS_EXTENSION", "auto", "required") == "required"


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME")
    return shutil.which("nvcc", path=str(Path(home, "bin")) if home else None)


def cuda_compiler() -> str | None:
    """The nvcc to compile csrc/cuda with, if that is to be compiled."""
    nvcc = None if MODE == "off" else find_nvcc()
    if MODE == "on" and nvcc is None:
        raise SystemExit("SSLKERNELS_CUDA=on, but nvcc was not found: set CUDA_HOME or PATH")
    if MODE == "auto" and nvcc:
        torch = importlib.util.find_spec("torch")  # looked for, not imported
        if torch is None:
            say("torch is not installed yet: csrc/cuda is compiled in case it will have CUDA")
        elif runpy.run_path(str(Path(torch.origin).with_name("version.py")))["cuda"] is None:
            say("torch has no CUDA here: csrc/cuda is left out (SSLKERNELS_CUDA=on compiles it)")
            return None
    return nvcc


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        nvcc = cuda_compiler()
        # In "auto", what cannot be compiled is left out, and said.
        compilers = [nvcc, None] if nvcc and MODE == "auto" else [nvcc]
        for compiler in compilers:
            wanted = f"_C with {compiler}" if compiler else "_C without CUDA"
            try:
                self.cmake(ext, compiler)
                say(f"built {wanted} (SSLKERNELS_CUDA={MODE})")
                return
            except (OSError, subprocess.CalledProcessError) as error:
                if IS_REQUIRED and compiler == compilers[-1]:
                    raise
                say(f"could not build {wanted}: {error}")
        say("installing pure Python: on the CPU, tiled torch stands in for the C++ kernels")

    def cmake(self, ext: Extension, nvcc: str | None) -> None:
        import pybind11

        source = Path(__file__).resolve().parent
        # kept, so that building again compiles only what has changed
        build = source / "build" / f"{sys.implementation.cache_tag}-{'cuda' if nvcc else 'cpu'}"
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": shutil.which("ninja") or "ninja",  # an earlier one may be gone
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": Path(self.get_ext_fullpath(ext.name))
            .resolve()
            .parent,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "SSLKERNELS_WITH_CUDA": "ON" if nvcc else "OFF",
        }
        if nvcc:
            options["CMAKE_CUDA_COMPILER"] = nvcc
            archs = os.environ.get("SSLKERNELS_CUDA_ARCHS", DEFAULT_ARCHS)
            options["CMAKE_CUDA_ARCHITECTURES"] = archs
        flags = [f"-D{name}={value}" for name, value in options.items()]
        subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja", *flags], check=True)
        subprocess.run(["cmake", "--build", build], check=True)


setup(
    # optional: setuptools then accepts that build_extension left nothing behind
    ext_modules=[Extension("sslkernels._C", sources=[], optional=not IS_REQUIRED)],
    cmdclass={"build_ext": CMakeBuild},
)
