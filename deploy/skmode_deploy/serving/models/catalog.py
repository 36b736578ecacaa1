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
    states: tuple[ModelState, ...] = ()  # of what does not serve as well

    def get(self, name: str) -> M:
        """Find a model."""
        try:
            return self.models[name]
        except KeyError:
            raise self._explain(name) from None

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

    def _explain(self, name: str) -> UnknownModelError:
        model, _, version = name.partition("@")
        if version and model in self.loaded_versions:
            versions = list_names([str(number) for number in self.loaded_versions[model]])
            return UnknownModelError(
                f"The version of {model!r} must be one of {versions}, got {version[:40]!r}: ask "
                f"for one of these, or for {model!r} without a version."
            )
        return unknown_model(name, self.current_versions)


def unknown_model(name: str, known: Mapping[str, object]) -> UnknownModelError:
    """Say that there is no such model, and which ones there are."""
    shown = _name_as_client(name)
    if not known:
        return UnknownModelError(
            f"A model must be served to be asked for, got {shown}, and none is: copy its bundle to "
            "the model folder."
        )
    return UnknownModelError(
        f"The model must be one of {list_names(sorted(known))}, got {shown}: ask for one of these."
    )


def _name_as_client(name: str) -> str:
    """Show "churn@3" as version 3 of a model: in most requests the version stands by itself."""
    model, _, version = name.partition("@")
    if not model or not version:
        return repr(name[:120])
    is_number = version.isascii() and version.isdigit() and len(version) <= 40
    return f"version {version if is_number else repr(version[:40])} of model {model[:120]!r}"
