"""DCMTK's programs as a second decoder: what they show of a DICOM file, and why not of some."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes

INSTALLED = all(map(shutil.which, ("dcmj2pnm", "dcml2pnm", "dcmcjpeg", "dcmcjpls")))
LIMIT = 60


def shown(path: Path, folder: Path, *, window: bool = True) -> np.ndarray[Any, Any] | str:
    """Return what DCMTK shows of a file, uint8, or the last line of what it says.

    The VOI LUT, else the first window, else the range of the values; `window` says whether the
    file's is one.
    """
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    syntax = getattr(dataset.file_meta, "TransferSyntaxUID", "")
    if syntax in JPEG2000TransferSyntaxes:  # which DCMTK does not read; OpenJPEG gives the values
        try:
            path = _uncompressed(path, folder)
        except RuntimeError as error:
            return str(error)
    program = "dcml2pnm" if syntax in JPEGLSTransferSyntaxes else "dcmj2pnm"
    target = folder / "shown.pnm"
    options = _voi(dataset, window) if "PhotometricInterpretation" in dataset else []
    command = [program, *options, "+op", "-O", str(path), str(target)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    if ended.returncode:
        return (ended.stdout + ended.stderr).strip().splitlines()[-1]
    with Image.open(target) as image:
        return np.asarray(image)


def compress(path: Path, program: str, *options: str) -> Path:
    """Compress a file with one of DCMTK's encoders, in place."""
    target = path.with_suffix(".packed")
    subprocess.run([program, *options, str(path), str(target)], check=True, timeout=LIMIT)
    return target.rename(path)


def _voi(dataset: Any, window: bool) -> list[str]:
    if not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        return []
    if dataset.get("VOILUTSequence"):
        return ["+Wl", "1"]
    return ["+Wi", "1"] if window and "WindowWidth" in dataset else ["+Wm"]


def _uncompressed(path: Path, folder: Path) -> Path:
    dataset = pydicom.dcmread(path)
    dataset.decompress(decoding_plugin="pylibjpeg", generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(folder / "plain.dcm")
    return folder / "plain.dcm"
