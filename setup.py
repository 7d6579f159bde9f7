"""Builds ``sslkernels._C`` with CMake and ninja. Needs no torch and looks for no GPU.

SSLKERNELS_CUDA=auto|on|off     auto (default): compile csrc/cuda where nvcc is found
SSLKERNELS_CUDA_ARCHS="80;90a"  CMake's list of CUDA architectures
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEFAULT_ARCHS = "80-real;90a-real;100a-real;120"


def say(message: str) -> None:
    print(f"sslkernels: {message}", file=sys.stderr, flush=True)


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    return shutil.which("nvcc", path=str(Path(home, "bin"))) if home else shutil.which("nvcc")


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        mode = os.environ.get("SSLKERNELS_CUDA", "auto")
        if mode not in ("auto", "on", "off"):
            raise SystemExit(f"SSLKERNELS_CUDA must be auto, on or off; got {mode!r}")
        nvcc = find_nvcc()
        if mode == "on" and nvcc is None:
            raise SystemExit("SSLKERNELS_CUDA=on, but there is no nvcc: set CUDA_HOME or PATH")
        with_cuda = mode == "on" or (mode == "auto" and nvcc is not None)
        try:
            self.cmake(ext, nvcc if with_cuda else None)
            say(f"built _C {'with' if with_cuda else 'without'} CUDA (SSLKERNELS_CUDA={mode})")
            return
        except (OSError, subprocess.CalledProcessError) as error:
            if mode == "on":
                raise
            say(f"building _C {'with' if with_cuda else 'without'} CUDA failed: {error}")
        if with_cuda:
            try:
                self.cmake(ext, None)
                say("built _C without CUDA: nvcc was found but could not compile it")
                return
            except (OSError, subprocess.CalledProcessError):
                pass
        say("installing pure Python: no working C++ compiler. The CPU runs tiled torch instead.")

    def cmake(self, ext: Extension, nvcc: str | None) -> None:
        import pybind11

        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / ("cuda" if nvcc else "cpu")
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": output.parent,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "SSLKERNELS_WITH_CUDA": "ON" if nvcc else "OFF",
        }
        if nvcc:
            options["CMAKE_CUDA_COMPILER"] = nvcc
            archs = os.environ.get("SSLKERNELS_CUDA_ARCHS", DEFAULT_ARCHS)
            options["CMAKE_CUDA_ARCHITECTURES"] = archs
        source = Path(__file__).resolve().parent
        flags = [f"-D{name}={value}" for name, value in options.items()]
        subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja", *flags], check=True)
        subprocess.run(["cmake", "--build", build], check=True)

    def get_outputs(self) -> list[str]:  # a pure-Python install has no _C to list
        return [path for path in super().get_outputs() if Path(path).exists()]

    def copy_extensions_to_source(self) -> None:
        if self.get_outputs_if_built():
            super().copy_extensions_to_source()

    def get_outputs_if_built(self) -> list[str]:
        return self.get_outputs()


setup(ext_modules=[Extension("sslkernels._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
