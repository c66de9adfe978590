"""What an adapter must say for its rule, and a family of options; a mistake in one is found here and not in a step."""

from collections.abc import Mapping

import tensorflow as tf

from fusemin._build import OPTIONS, RULES
from fusemin.families.family import Adapter, Family


class AdapterError(TypeError):
    """An adapter and its rule do not fit each other: a mistake in a family, not of whoever uses the optimizer."""


# Rules an adapter was found to fit, since a plan is made at each step of a fused optimizer.
_FITTING: set[tuple[Adapter, str]] = set()


def check_adapter(family: Family, adapter: Adapter, optimizer, rule: str) -> None:
    """Checks that an adapter says all that its rule needs, and that of its sparse gradients. Creates no variables.

    Args:
      family: of the adapter.
      adapter: of the optimizer.
      optimizer: one whose rule it is, not what wraps it.
      rule: what the adapter names for it.

    Raises:
      AdapterError: there is no such rule, or the adapter lacks one of its slots, scalars or hyperparameters.
    """
    if (adapter, rule) in _FITTING:
        return
    name = f"the adapter of {family.name} {family.library_class(optimizer).__name__}"
    # What is common to all optimizers of a family is not the adapter's to say.
    said = {
        "slots": set(adapter.slots),
        "scalars": set(adapter.scalars),
        "hyperparameters": {"learning_rate", *adapter.hyperparameters(optimizer)},
    }
    for needed_rule in (rule, adapter.sparse(optimizer).rule or rule):
        if needed_rule not in RULES:
            raise AdapterError(f"{name} names the rule '{needed_rule}', which there is not")
        for kind, names in said.items():
            missing = [needed for needed in RULES[needed_rule][kind] if needed not in names]
            if missing:
                raise AdapterError(
                    f"{name} says nothing of {kind} {missing} of the rule '{needed_rule}'; it says {sorted(names)}"
                )
    _FITTING.add((adapter, rule))


def check_options(family: Family, numbers: Mapping[str, float]) -> None:
    """Raises an AdapterError unless every name of `StepOptions.numbers` is that of an option."""
    unknown = sorted(numbers.keys() - OPTIONS.keys())
    if unknown:
        raise AdapterError(f"{family.name} names the options {unknown}, which there are not; there are {list(OPTIONS)}")


def held(family: Family, adapter: Adapter, optimizer, kind: str, rule_name: str, variable=None) -> tf.Variable:
    """A slot variable of a variable, or a scalar variable, by the rule's name of it. Only after `build`.

    Args:
      kind: "slots" or "scalars".
      rule_name: the rule's name of it.
      variable: whose slot; None for a scalar.

    Raises:
      AdapterError: the optimizer has nothing by the name that the adapter gives.
    """
    theirs = getattr(adapter, kind)[rule_name]
    try:
        found = family.scalar(optimizer, theirs) if variable is None else family.slot(optimizer, theirs, variable)
    except (AttributeError, LookupError) as error:
        found, cause = None, error
    else:
        cause = None
    if not isinstance(found, tf.Variable):
        of = f"the adapter of {family.name} {family.library_class(optimizer).__name__}"
        raise AdapterError(
            f"{of} says that {kind} '{rule_name}' of the rule is '{theirs}', and the optimizer has no such variable"
        ) from cause
    return found
