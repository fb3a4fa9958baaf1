"""A source distribution from PyPI, checked, and nothing of it installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path


def member_of_sdist(sdist: Path | None, package: str, version: str, sha256: str, member: str) -> bytes:
    """The bytes of one file in ``sdist``, or in what PyPI has if that is None. Exits if it is another one."""
    if sdist is None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return member_of_sdist(
                _download(Path(folder), package, version, sha256), package, version, sha256, member
            )
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if digest != sha256:
        raise SystemExit(f"{sdist} has sha256 {digest}, not {sha256}")
    with tarfile.open(sdist) as archive:
        file = archive.extractfile(member)
        if file is None:
            raise SystemExit(f"{member} is not a file in {sdist}")
        return file.read()


def _download(folder: Path, package: str, version: str, sha256: str) -> Path:
    # pip looks into what builds a package, so it must check the hash before
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, "--dest", str(folder), "--requirement", str(requirement)], check=False)
    path = folder / f"{package}-{version}.tar.gz"
    if not path.exists():
        raise SystemExit(f"pip did not download {path.name}; fetch it by hand and give --sdist PATH")
    return path
