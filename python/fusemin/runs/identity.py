"""What a run is, as far as a checkpoint of it can be used by another one."""

import json


def describe(program, optimizer, criterion, names, settings: dict) -> dict:
    """What must agree, in what JSON has.

    Args:
      program: the SegmentProgram.
      optimizer: as the user gave it.
      criterion: of convergence, or None.
      names: of the leaves of the trace.
      settings: by name, what else must agree.
    """
    return json.loads(
        json.dumps(
            {
                "optimizer": type(optimizer).__name__,
                "configuration of the optimizer": _configuration(optimizer),
                "trainable variables": [_shape(v) for v in program.step.unwrapped],
                "variables": [_shape(v) for v in program.variables],
                "trace": [
                    f"{name} {s.dtype.name}{s.shape}" for name, s in zip(names, program.leaf_specs, strict=False)
                ],
                "convergence criterion": None if criterion is None else type(criterion).__name__,
                **settings,
            },
            default=str,
        )
    )


def _shape(variable) -> str:
    return f"{variable.dtype.name}{variable.shape}"


def _configuration(optimizer) -> dict:
    """What the optimizer was made with, but for its name, and for a learning rate that is a variable and saved."""
    try:
        config = optimizer.get_config()
    except (AttributeError, NotImplementedError):
        return {}
    rates = ("learning_rate", "lr")
    return {k: v for k, v in config.items() if k != "name" and not (k in rates and not isinstance(v, dict))}


def differences(then: dict, now: dict) -> list[str]:
    """What differs, in words."""
    found = []
    for key in sorted({*then, *now}):
        a, b = then.get(key), now.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            found += [f"{key}, {d}" for d in differences(a, b)]
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and len(a) > 3:
            found += [f"{key} {i}: it had {x}, now {y}" for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y]
        else:
            found.append(f"{key}: it had {_text(a)}, now {_text(b)}")
    return found


def _text(value) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{len(value)} of them"
    return json.dumps(value)
