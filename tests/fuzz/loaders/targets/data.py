"""Images, tables and the store of decoded images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from primia_flwr.config.experiment.data import DataConfig
from primia_flwr.data.census import read_header
from primia_flwr.data.check import _examine
from primia_flwr.data.files.decoding.codestream import read_frame
from primia_flwr.data.files.decoding.show import decode_compressed
from primia_flwr.data.files.dicom import read_patient
from primia_flwr.data.files.images import decode, depth_is_guessed, shorter_side
from primia_flwr.data.files.sequences import one_picture
from primia_flwr.data.files.store import open_store
from primia_flwr.data.layouts.manifest import read_table
from primia_flwr.data.manifest import Manifest, Sample
from primia_flwr.errors import DataError
from tests.data.files.test_dicom import make as make_dicom
from tests.fuzz.image_seeds import seeds as image_files
from tests.fuzz.loaders.target import Made, put, target

PIXELS = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)


def _image(form: str, *, light: int = 1) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((light * PIXELS % 256).astype(np.uint8)).save(stream, form)
    return stream.getvalue()


@target("image")
def image(folder: Path) -> Made:
    file = folder / "x"
    make_dicom(folder / "y", PIXELS, PatientID="p")
    known = image_files()
    seeds = [*map(_image, ("PNG", "JPEG", "TIFF")), (folder / "y").read_bytes()]
    seeds.append(_image("PNG", light=0))  # black, as where rows are missing
    seeds += [known[name] for name in _NO_WORKER]

    def load(raw: bytes) -> None:
        pixels = decode(put(file, raw), at_least=8)
        assert pixels.dtype == np.uint8
        assert shorter_side(file, pixels) > 0
        read_patient(file)
        depth_is_guessed(file)
        _examine(folder, "x", 1)

    return Made(load, seeds)


@target("sequence")
def sequence(folder: Path) -> Made:
    file = folder / "x"
    make_dicom(folder / "y", PIXELS, Rows=12, NumberOfFrames=2)
    stream = io.BytesIO()
    Image.fromarray(np.tile((PIXELS[:20] % 256).astype(np.uint8), 2)).save(stream, "PNG")

    def load(raw: bytes) -> None:
        pixels = one_picture(put(file, raw), 2)
        assert pixels.dtype == np.uint8
        assert pixels.shape[1] % 2 == 0
        facts = _examine(folder, "x", 2)
        assert (facts.height, facts.width) == pixels.shape[:2]

    return Made(load, [(folder / "y").read_bytes(), stream.getvalue()])


_NO_WORKER = (
    "deep.png", "deep-rgba.png", "deep.tif", "bare", "segmented.dcm", "packed.dcm", "bits.dcm",
    "variant-1.dcm", "variant-5.dcm", "Deflated Explicit VR Little Endian.dcm",
)  # fmt: skip
"""Images of `image_seeds` that are decoded in this process, and reach all that decodes there."""


@target("run-length encoded image")
def run_length_encoded(folder: Path) -> Made:
    file = folder / "x"
    seeds = [image_files()[name] for name in ("MR_small_RLE.dcm", "SC_rgb_rle_16bit.dcm")]

    def load(raw: bytes) -> None:
        if b"1.2.840.10008.1.2.5" not in raw:  # the other decoders may end this process
            raise DataError("of another transfer syntax")
        decode_compressed(put(file, raw))

    return Made(load, seeds)


@target("codestream")
def codestream(folder: Path) -> Made:
    known = image_files()
    starts = {"JPEG2000.dcm": b"\xff\x4f\xff\x51", "SC_rgb_jls_lossy_line.dcm": b"\xff\xd8"}
    seeds = [known[name][known[name].index(start) :] for name, start in starts.items()]

    def load(raw: bytes) -> None:
        try:
            read_frame(raw)
        except ValueError as error:  # which `read_dicom` makes a sentence of
            raise DataError(str(error)) from None

    return Made(load, seeds)


@target("manifest")
def manifest(folder: Path) -> Made:
    file = folder / "images.csv"
    found = Manifest(folder, ("ill", "well"), (Sample("a.png", 0, "p1"), Sample("b.png", 1, "p2")))
    found.write_csv(file)
    cfg = DataConfig(layout="manifest", manifest=str(file))
    plain = file.read_bytes()
    text = plain.decode()
    others = [plain.replace(b",", b";"), *map(text.encode, ("utf-16", "utf-16-le", "utf-16-be"))]
    return Made(lambda raw: (put(file, raw), read_table(cfg, seed=1)), [plain, *others])


@target("header")
def header(folder: Path) -> Made:
    """Of a plain file and a deflated one; whatever is wrong, it only says less."""
    file = folder / "x"
    make_dicom(folder / "y", PIXELS, PatientID="p", ViewPosition="PA")
    deflated = image_files()["Deflated Explicit VR Little Endian.dcm"]

    def load(raw: bytes) -> None:
        found = read_header(put(file, raw))
        assert found is None or isinstance(found.patient, str)

    return Made(load, [(folder / "y").read_bytes(), deflated])


@target("image store")
def store(folder: Path) -> Made:
    put(folder / "a.png", _image("PNG"))
    cfg = DataConfig(layout="folder", cache_dir=str(folder / "cache"), image_size=16)
    found = Manifest(folder, ("ill",), (Sample("a.png", 0, "p1"),))
    index = open_store(found, cfg).folder / "index.json"
    seed = index.read_bytes()

    def load(raw: bytes) -> None:
        index.parent.mkdir(exist_ok=True)
        put(index, raw)
        opened = open_store(found, cfg)
        assert opened.rows(["a.png"]).shape == opened.mapped().shape == (1, 1, 16, 16)

    assert json.loads(seed)
    return Made(load, [seed])
