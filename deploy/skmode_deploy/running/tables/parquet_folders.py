"""Score a folder of Parquet files, file by file; a run that was stopped can continue.

The metadata of each output file record its source file and the job. There is no separate list of
finished files, which could disagree with the files.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from skmode_deploy.bundle.files import to_path
from skmode_deploy.bundle.messages import as_sentence, list_names
from skmode_deploy.running.tables.errors import InputError
from skmode_deploy.running.tables.files import replacing
from skmode_deploy.running.tables.parquet_files import ROW_GROUP, import_parquet

SUCCESS = "_SUCCESS"  # as Hadoop and Spark call it
KEY = b"skmode_deploy"
# Left behind by a process that was killed while it wrote.
_UNFINISHED = re.compile(r"\..*-[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True)
class ScoringJob:
    """Everything besides the rows that the predictions depend on."""

    manifest_sha256: str
    keep: tuple[str, ...]
    by_position: bool

    def to_json(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return {**dataclasses.asdict(self), "keep": list(self.keep)}


class ScoredFolder:
    """A folder of Parquet files to read, and one to write; `names` are sorted relative paths."""

    def __init__(self, source: Any, target: Any, job: ScoringJob) -> None:
        self._parquet = import_parquet()
        self._source = to_path(source, "source")
        self._target = to_path(target, "target")
        self._job = job
        _check_apart(self._source, self._target)
        self.names = _parquet_names(self._source, "source")
        if not self.names:
            raise ValueError(
                "source must be a folder with Parquet files, got none in "
                f"{str(self._source)!r}: pass the folder that they are in."
            )
        # Taken before any file is read, so that the next run notices files that change from now on.
        self._fingerprints = {name: self._fingerprint(name) for name in self.names}

    def open(self, name: str) -> Any:
        """Open a file of the source."""
        try:
            # Without pre_buffer, which holds a whole row group at once.
            return self._parquet.ParquetFile(self._source / name, pre_buffer=False)
        except Exception as error:
            if not _is_arrow_error(error):
                raise
            raise InputError(
                f"It must be a Parquet file, but reading it failed: {as_sentence(error)}"
            ) from None

    def unfinished(self) -> list[str]:
        """Prepare the target, and list the files that are to be written."""
        self._target.mkdir(parents=True, exist_ok=True)
        foreign = sorted({*_parquet_names(self._target, "target")} - {*self.names})
        if foreign:
            raise ValueError(
                f"target must hold only files that source has, got {list_names(foreign)} as well: "
                "remove files that source no longer has, or choose another folder."
            )
        names = [name for name in self.names if not self._is_finished(name)]
        if names:
            (self._target / SUCCESS).unlink(missing_ok=True)
        for path in self._target.rglob(".*"):
            if _UNFINISHED.fullmatch(path.name) and path.is_file():
                path.unlink()
        return names

    def write(self, name: str, schema: Any, batches: Iterable[Any]) -> None:
        """Write a file, which gets its name when it is complete."""
        import pyarrow

        schema = schema.with_metadata({KEY: json.dumps(self._fingerprints[name]).encode()})
        path = self._target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh, self._parquet.ParquetWriter(fresh, schema) as writer:
            for group in _grouped(batches):
                writer.write_table(pyarrow.Table.from_batches(group).replace_schema_metadata())

    def finish(self) -> int:
        """Mark the target as complete; return its number of rows."""
        (self._target / SUCCESS).touch()
        return sum(self._parquet.read_metadata(self._target / name).num_rows for name in self.names)

    def _fingerprint(self, name: str) -> dict[str, Any]:
        """Describe the job, and the source file by size and time of change."""
        status = (self._source / name).stat()
        source = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
        return {"job": self._job.to_json(), "source": source}

    def _is_finished(self, name: str) -> bool:
        path = self._target / name
        if not os.path.lexists(path):
            return False
        try:
            text = (self._parquet.read_schema(path).metadata or {}).get(KEY, b"{}")
        except Exception as error:
            if not _is_arrow_error(error):
                raise
            text = b"{}"
        found = json.loads(text)
        if found.get("job") != self._job.to_json():
            raise ValueError(
                "target must be new, empty or from a run with the same bundle and columns as this "
                f"one, {self._job.to_json()}, got {str(path)!r} from "
                f"{found.get('job', 'something else')}: choose another folder, or remove this one."
            )
        return bool(found == self._fingerprints[name])


def _is_arrow_error(error: Exception) -> bool:
    import pyarrow

    return isinstance(error, pyarrow.ArrowException | OSError)


def _check_apart(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise ValueError(
            f"source must be a folder, got {str(source)!r}: pass the folder of the Parquet files, "
            "or score a single file with `skmode-deploy predict`."
        )
    if target.exists() and not target.is_dir():
        raise ValueError(f"target must be a folder, got the file {str(target)!r}: name another.")
    first, second = source.resolve(), target.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise ValueError(
            f"source and target must not contain each other, got {str(source)!r} and "
            f"{str(target)!r}: name a folder elsewhere."
        )


def _parquet_names(folder: Path, what: str) -> list[str]:
    """List the Parquet files below a folder; raise for other files, so that no rows get lost."""
    names = []
    for path, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = [name for name in folders if _belongs(name)]
        inside = Path(path).relative_to(folder)
        found = [(inside / name).as_posix() for name in files if _belongs(name)]
        linked = [name for name in folders if os.path.islink(os.path.join(path, name))]
        strange = linked or [name for name in found if not name.lower().endswith(".parquet")]
        if strange:
            raise ValueError(
                f"{what} must contain only .parquet files and folders of them, got "
                f"{list_names(sorted(strange))}{', which is a link' if linked else ''} in "
                f"{str(folder)!r}: move it elsewhere, or start its name with an underscore."
            )
        names += found
    return sorted(names)


def _belongs(name: str) -> bool:
    """Whether a name counts; hidden names and names such as ``_SUCCESS`` do not."""
    return not name.startswith((".", "_"))


def _fail(error: OSError) -> None:
    raise error


def _grouped(batches: Iterable[Any]) -> Iterator[list[Any]]:
    """Collect batches until they fill a row group."""
    group: list[Any] = []
    n_rows = 0
    for batch in batches:
        group.append(batch)
        n_rows += batch.num_rows
        if n_rows >= ROW_GROUP:
            yield group
            group, n_rows = [], 0
    if n_rows:
        yield group
