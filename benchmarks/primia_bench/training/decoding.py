"""Images per second that are read from files, by kind of file; what own processes cost.

    python -m primia_bench.training.decoding --output benchmarks/results/decoding.json

Each kind is the same radiograph-like picture with noise, so many files of it, read one after the
other and by `--threads` threads; the median of `--repeats`. `in_this_process` decodes compressed
DICOM without a process of its own: the difference is what it costs that no file ends this one.
`--earlier FOLDER` measures another checkout's `decode` on the same files, with one thread.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from primia_bench.machine import describe_machine, publish
from primia_flwr.data.files.decoding import workers
from primia_flwr.data.files.decoding.show import decode_compressed
from primia_flwr.data.files.images import decode
from primia_flwr.data.files.store import in_parallel

COMPRESSED = {"dicom_jpeg_2000": JPEG2000Lossless, "dicom_rle": RLELossless}


def picture(side: int) -> npt.NDArray[np.uint16]:
    """Return a smooth picture of 12 bits with noise."""
    y, x = np.mgrid[0:side, 0:side] / side
    smooth = 0.2 + 0.7 * np.exp(-((x - 0.4) ** 2 + (y - 0.5) ** 2) / 0.08)
    noise = np.random.default_rng(0).normal(0, 0.003, (side, side))
    found: npt.NDArray[np.uint16] = np.rint(np.clip(smooth + noise, 0, 1) * 4095).astype("<u2")
    return found


def dicom(pixels: npt.NDArray[np.uint16], path: Path, syntax: UID) -> None:
    """Write a DICOM file with a window."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset: Any = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.PixelData = 0, pixels.tobytes()
    dataset.WindowCenter, dataset.WindowWidth = 2048, 3000
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path, enforce_file_format=True)


def write(folder: Path, side: int) -> dict[str, Path]:
    """Write one file of each kind."""
    pixels = picture(side)
    kinds = {"dicom_uncompressed": ExplicitVRLittleEndian, **COMPRESSED}
    found = {name: folder / f"{name}.dcm" for name in kinds}
    for name, syntax in kinds.items():
        dicom(pixels, found[name], syntax)
    small = Image.fromarray((pixels >> 4).astype(np.uint8))
    found |= {"jpeg": folder / "a.jpg", "png": folder / "a.png", "png_16_bits": folder / "b.png"}
    small.save(found["jpeg"], quality=92)
    small.save(found["png"])
    Image.fromarray(pixels).save(found["png_16_bits"])
    return found


def speed(
    read: Callable[[Path], object], path: Path, args: argparse.Namespace, threads: int
) -> float:
    """Return images a second, the median of some repeats after one that is not measured."""
    measured = []
    for repeat in range(args.repeats + 1):
        began = time.perf_counter()
        for _ in in_parallel(read, [path] * args.images, workers=threads):
            pass
        if repeat:
            measured.append(args.images / (time.perf_counter() - began))
    return float(round(statistics.median(measured), 1))


_EARLIER = """
import statistics, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[1])
from primia_flwr.data.files.images import decode
path, images, repeats, measured = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), []
for repeat in range(repeats + 1):
    began = time.perf_counter()
    for _ in range(images):
        decode(path)
    measured.append(images / (time.perf_counter() - began))
print(round(statistics.median(measured[1:]), 1))
"""


def earlier(path: Path, args: argparse.Namespace) -> float:
    """Return images a second that another checkout reads."""
    command = [sys.executable, "-c", _EARLIER, args.earlier, str(path)]
    command += [str(args.images), str(args.repeats)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every kind, and the start of one process."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write(Path(folder), args.side).items():
            result[name] = {
                "one_thread": speed(decode, path, args, 1),
                f"{args.threads}_threads": speed(decode, path, args, args.threads),
            }
            if args.earlier:
                result[name]["earlier_one_thread"] = earlier(path, args)
            if name in COMPRESSED:
                result[name]["in_this_process"] = speed(decode_compressed, path, args, 1)
        workers.end_all()
        began = time.perf_counter()
        decode(Path(folder) / "dicom_rle.dcm")
        start = time.perf_counter() - began
        workers.end_all()
    return {
        "benchmark": "decoding",
        "settings": {
            key: value for key, value in vars(args).items() if key not in ("output", "earlier")
        },
        "images_per_second": result,
        "seconds_to_start_a_process_and_decode_one": round(start, 2),
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--earlier", default="", metavar="FOLDER", help="an earlier checkout")
    parser.add_argument("--output", default="", help="also write the JSON to this file")
    args = parser.parse_args()
    publish(measure(args), args.output)


if __name__ == "__main__":
    main()
