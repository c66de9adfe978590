"""Options that several families share."""

# In the order of precedence of Keras: of several that are set the first one counts.
CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")


def clipping_options(optimizer) -> dict[str, float]:
    """The clipping option that is in force, by the op's name; empty if there is none."""
    for name in CLIPPING:
        limit = getattr(optimizer, name)
        if limit is not None and limit > 0:
            return {name: float(limit)}
    return {}
