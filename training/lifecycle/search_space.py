"""What a search may vary: the architecture, how it learns, and which groups of features it sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from training.config import ForecasterConfig
from training.data.feature_choice import feature_groups, scales, without_groups

WITHOUT = "without_"
"""Before the name of a feature group: whether it is left out."""


@dataclass(frozen=True)
class SearchSpace:
    """Choices for each setting; a trial takes one of each.

    Attributes
    ----------
    choices
        Setting of `ForecasterConfig` to its values; the value that it has already is always among them.
    features
        Whether groups of features may be left out.
    """

    choices: dict[str, tuple[Any, ...]] = field(
        default_factory=lambda: {
            "width": (16, 32, 64),
            "blocks": (1, 2),
            "lstm_units": (16, 32, 64),
            "hidden": (16, 32, 64),
            "dropout": (0.0, 0.1, 0.2, 0.3),
            "learning_rate": (5e-4, 1e-3, 2e-3, 4e-3),
        }
    )
    features: bool = True

    def parameters(
        self, base: ForecasterConfig, feature_names: tuple[str, ...]
    ) -> dict[str, tuple[Any, ...]]:
        """Return every parameter of a trial and its values, the first being what it is without a search.

        Parameters
        ----------
        base
            The settings to begin with.
        feature_names
            All features there are.
        """
        found: dict[str, tuple[Any, ...]] = {}
        for name, values in self.choices.items():
            own = getattr(base, name)
            found[name] = (own, *(value for value in values if value != own))
        groups = feature_groups(feature_names) if self.features else ()
        left_out = {f"{WITHOUT}{g}": (False, True) for g in groups if _leaves_some(feature_names, g)}
        return found | left_out


@dataclass(frozen=True)
class Choice:
    """What one trial is to be made of.

    Attributes
    ----------
    settings
        Settings of `ForecasterConfig` that it varies.
    left_out_groups
        Feature groups that it does not see.
    """

    settings: dict[str, Any]
    left_out_groups: tuple[str, ...]

    def config(self, base: ForecasterConfig) -> ForecasterConfig:
        """Return the settings of a trial."""
        return ForecasterConfig(**{**base.model_dump(), **self.settings})

    def features(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the features that a trial sees; such as may scale the targets always stay."""
        return without_groups(names, self.left_out_groups, keep=scales(names))


def draw(parameters: dict[str, tuple[Any, ...]], suggest: Callable[[str, tuple[Any, ...]], Any]) -> Choice:
    """Take one value of each parameter, as `suggest` says."""
    drawn = {name: suggest(name, values) for name, values in parameters.items()}
    groups = tuple(
        name.removeprefix(WITHOUT) for name, value in drawn.items() if name.startswith(WITHOUT) and value
    )
    return Choice({n: v for n, v in drawn.items() if not n.startswith(WITHOUT)}, groups)


def _leaves_some(names: tuple[str, ...], group: str) -> bool:
    """Whether leaving the group out changes anything and leaves more than what may scale the targets."""
    left = without_groups(names, (group,), keep=scales(names))
    return len(scales(names)) < len(left) < len(names)
