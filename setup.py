"""Builds the native extension through CMake; everything else about the package is in pyproject.toml.

    pip install --no-build-isolation .     build against the torch that is installed
    python setup.py build_ext --inplace    the same module, into the checkout

Without a compiler the package installs all the same and runs on PyTorch alone. Environment:

    ZOOSPARSE_BUILD_EXT   ON: a failed build is an error; OFF: do not try; AUTO (default): try
    ZOOSPARSE_CUDA        ON, OFF or AUTO (default), as in CMakeLists.txt
    CMAKE_ARGS            further arguments for CMake
    MAX_JOBS              parallel compilations (default: the number of cores)
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def find_tool(name: str) -> str:
    """A build tool from beside the running Python, activated or not, or from PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if (found := shutil.which(name, path=path)) is None:
        raise FileNotFoundError(f"{name} was not found; `pip install {name}` provides it")
    return found


class CMakeBuild(build_ext):
    """One CMake project for the extension module and the library it loads."""

    def build_extension(self, ext: Extension) -> None:
        mode = os.environ.get("ZOOSPARSE_BUILD_EXT", "AUTO").upper()
        if mode == "OFF":
            return
        try:
            self.run_cmake(Path(self.get_ext_fullpath(ext.name)).resolve().parent)
        except (OSError, subprocess.CalledProcessError) as error:
            if mode == "ON" or os.environ.get("ZOOSPARSE_CUDA", "").upper() == "ON":
                raise
            why = "CMake failed, see above" if isinstance(error, subprocess.CalledProcessError) else error
            self.warn(
                f"zoosparse_ext: the native kernels were not built ({why}). The package works without "
                "them, on PyTorch alone and slower. To build them, install a C++20 compiler, cmake and "
                "ninja; `ZOOSPARSE_BUILD_EXT=ON pip install -v --no-build-isolation .` shows more."
            )

    def copy_extensions_to_source(self) -> None:
        """In the checkout too, the library lies beside the module that loads it."""
        super().copy_extensions_to_source()
        for ext in self.extensions:
            built = Path(self.build_lib, *ext.name.split(".")).parent
            target = Path(self.get_finalized_command("build_py").get_package_dir(ext.name.rpartition(".")[0]))
            for library in built.glob("libzoosparse.*"):
                self.copy_file(str(library), str(target / library.name), level=self.verbose)

    def run_cmake(self, output: Path) -> None:
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        cmake = find_tool("cmake")
        configure = [
            *("-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DCMAKE_MAKE_PROGRAM={find_tool('ninja')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DZOOSPARSE_OUTPUT_DIR={output}",
            f"-DZOOSPARSE_CUDA={os.environ.get('ZOOSPARSE_CUDA', 'AUTO').upper()}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        subprocess.run([cmake, *configure], check=True)
        subprocess.run([cmake, "--build", str(build), "--parallel", jobs], check=True)


class WithBenchmarks(build_py):
    """Puts the benchmarks into an installed package, where `zoosparse bench` finds them."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "zoosparse_ext" / "benchmarks"
            shutil.copytree(
                ROOT / "benchmarks",
                target,
                ignore=shutil.ignore_patterns("results", "__pycache__"),
                dirs_exist_ok=True,
            )


setup(
    ext_modules=[Extension("zoosparse_ext._C", sources=[], optional=True)],
    cmdclass={"build_ext": CMakeBuild, "build_py": WithBenchmarks},
)
