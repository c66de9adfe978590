"""The table of docs/reference/fused.md, from the registry: `python -m fusemin.families.support_table`."""

from fusemin.families.registry import families


def support_table() -> str:
    """A Markdown table, a row for each optimizer, one for the options and one for sparse gradients, a column for each
    family."""
    # Those of other libraries first.
    columns = sorted(families(), key=lambda family: family.name.startswith("fusemin"))
    names = sorted({name for family in columns for name in family.adapters})
    short = sorted({name.removesuffix("Optimizer") for name in names})

    def cell(family, optimizer):
        return next((f"`{name}`" for name in (optimizer, f"{optimizer}Optimizer") if name in family.adapters), "")

    def options(names):
        return ", ".join(f"`{name}`" for name in names)

    def sparse(family):
        return f"fused, except with {options(family.sparse_except)}" if family.sparse_except else "fused"

    rows = [
        ["optimizer", *(f"`{family.name}`" for family in columns)],
        ["---"] * (1 + len(columns)),
        *([optimizer, *(cell(family, optimizer) for family in columns)] for optimizer in short),
        ["options", *(options(family.options) for family in columns)],
        ["sparse gradients", *map(sparse, columns)],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(support_table())
