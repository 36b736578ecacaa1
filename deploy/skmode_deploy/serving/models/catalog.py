"""What serves at one moment, found by name and version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from skmode_deploy.bundle.messages import list_names
from skmode_deploy.serving.models.versions import ModelState

M = TypeVar("M")


class UnknownModelError(LookupError):
    """There is no such model, or no such version of it."""


@dataclass(frozen=True)
class Catalog(Generic[M]):
    """What serves at one moment.

    It is replaced as a whole and never changed: so readers need no lock.
    """

    models: Mapping[str, M] = field(default_factory=dict)  # by "churn" and by "churn@3"
    loaded_versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    current_versions: Mapping[str, int] = field(default_factory=dict)
    states: tuple[ModelState, ...] = ()  # also of versions that do not serve

    def get(self, name: str, version: str = "") -> M:
        """Find a model by its name, which may be "churn@3", or by its name and version."""
        try:
            return self.models[f"{name}@{version}" if version else name]
        except KeyError:
            raise self._explain(name, version) from None

    def names(self) -> list[str]:
        """List the models."""
        return sorted(self.current_versions)

    def versions(self, name: str) -> list[int]:
        """List the versions of a model."""
        if name not in self.loaded_versions:
            raise self._explain(name)
        return list(self.loaded_versions[name])

    def current(self, name: str) -> int:
        """Say which version serves under the plain name."""
        if name not in self.current_versions:
            raise self._explain(name)
        return self.current_versions[name]

    def _explain(self, name: str, version: str = "") -> UnknownModelError:
        model, number = (name, version) if version else name.partition("@")[::2]
        if number and model in self.loaded_versions:
            versions = list_names([str(each) for each in self.loaded_versions[model]])
            return UnknownModelError(
                f"The version of {model!r} must be one of {versions}, got {number[:40]!r}: ask "
                f"for one of these, or for {model!r} without a version."
            )
        return unknown_model(name, self.current_versions, version)


def unknown_model(name: str, known: Mapping[str, object], version: str = "") -> UnknownModelError:
    """Say that there is no such model, and which ones there are; name it as the client did."""
    shown = repr(name[:120])
    if version:
        is_number = version.isascii() and version.isdigit() and len(version) <= 40
        shown = f"version {version if is_number else repr(version[:40])} of model {shown}"
    if not known:
        return UnknownModelError(
            f"A model must be served to be asked for, got {shown}, and none is: copy its bundle to "
            "the model folder."
        )
    return UnknownModelError(
        f"The model must be one of {list_names(sorted(known))}, got {shown}: ask for one of these."
    )
