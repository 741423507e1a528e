"""Small TFDS data sets as TFDS prepares them, written without TensorFlow."""

import io
import json
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

FEATURES = "tensorflow_datasets.core.features"


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


def write(
    directory: Path,
    name: str,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    version: str = "1.0.0",
    file_format: str = "array_record",
    feature: str = "image",
    dtype: str = "uint8",
) -> None:
    """Writes `{split: (images [N, H, W, C] uint8, labels [N])}` to `directory/name/version`."""
    place = directory / name / version
    place.mkdir(parents=True)
    for split, (images, labels) in splits.items():
        path = place / f"{name}-{split}.{file_format}-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for image, label in zip(images, labels, strict=True):
            example = tf_example_pb2.Example()
            example.features.feature[feature].bytes_list.value.append(png(image))
            example.features.feature["label"].int64_list.value.append(int(label))
            writer.write(example.SerializeToString())
        writer.close()
    shape = [str(n) for n in next(iter(splits.values()))[0].shape[1:]]
    features = {
        feature: {
            "pythonClassName": f"{FEATURES}.image_feature.Image",
            "image": {"dtype": dtype, "shape": {"dimensions": shape}},
        },
        "label": {
            "pythonClassName": f"{FEATURES}.class_label_feature.ClassLabel",
            "classLabel": {"numClasses": "10"},
        },
    }
    (place / "features.json").write_text(
        json.dumps(
            {
                "pythonClassName": f"{FEATURES}.features_dict.FeaturesDict",
                "featuresDict": {"features": features},
            }
        )
    )
    info = {
        "name": name,
        "version": version,
        "fileFormat": file_format,
        "splits": [
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": "1",
                "shardLengths": [str(len(images))],
            }
            for split, (images, _) in splits.items()
        ],
    }
    (place / "dataset_info.json").write_text(json.dumps(info))


def clothes(num: int, seed: int, shape: tuple[int, ...] = (28, 28, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(num, *shape), dtype=np.uint8), rng.integers(10, size=num)
