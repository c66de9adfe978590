"""One step of the CUDA kernels on arrays, through `fusemin._core.cuda` and whatever driver is in place."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fusemin import _core

cuda = _core.cuda


@dataclass
class DeviceStep:
    """The arguments of `cuda.plan`, as arrays of a device.

    `place(array, offset)` copies an array to the device, `offset` elements past an aligned address, and returns a
    NumPy view (interpreter), or anything that `address` takes and `read` turns into an array again.

    Attributes:
      launch: calls what enqueues the step: once, or as often as it likes, or in the capture of a graph.
      after: the arrays that the step leaves, by name, once `run` has returned.
    """

    place: object
    address: object
    read: object
    stream: int = 0
    scalar_dtype: str = "float64"
    tickets: object = None
    num_launches: int = 0
    num_bytes: int = 0
    launch: object = lambda enqueue: enqueue()
    after: dict = field(default_factory=dict)

    def run(
        self,
        rule,
        params,
        gradients,
        slots,
        hyperparameters,
        scalars=(),
        iterations=0,
        options=None,
        averages=(),
        accumulators=(),
        decays=(),
        gradient_rows=False,
        param_rows=False,
        loss_scale=None,
        loss_counter=None,
        values=(),
        offset=lambda kind, i: 0,
        out_of_place=False,
        from_memory=(),
        advance=True,
    ):
        """Runs a step and returns `after`: "params[0]", a name for each slot, "averages[0]", "scalar[0]", "iterations"
        and so on. `offset(kind, i)` misaligns array i of a kind; `out_of_place` gives new values memory of their own;
        `from_memory` are positions of hyperparameters that are read from device memory."""
        dtype = params[0].dtype
        held, results = [], {}

        def put(array, kind="", i=0):
            placed = self.place(np.asarray(array), offset(kind, i))
            held.append(placed)
            return placed

        def put_all(arrays, kind):
            placed = [put(x, kind, i) for i, x in enumerate(arrays)]
            target = [put(np.zeros_like(x), f"{kind}_out", i) for i, x in enumerate(arrays)] if out_of_place else placed
            results.update({f"{kind}[{i}]": x for i, x in enumerate(target)})
            return [self.address(x) for x in placed], [self.address(x) for x in target]

        def put_scalar(name, value, kind):
            placed = put(np.array([value], kind))
            target = put(np.zeros(1, kind)) if out_of_place and advance else placed
            results[name] = target
            return (kind, self.address(placed), self.address(target) if advance else 0)

        def rows(wanted, kind):
            if not wanted:
                return []
            placed = [put(np.zeros_like(x), kind, i) for i, x in enumerate(params)]
            results.update({f"{kind}[{i}]": x for i, x in enumerate(placed)})
            return [self.address(x) for x in placed]

        names = _core.rules()[rule]
        param_at, param_to = put_all(params, "params")
        slot_pairs = [put_all(slot, name) for name, slot in zip(names["slots"], slots, strict=True)]
        average_at, average_to = put_all(averages, "averages")
        accumulator_at, accumulator_to = put_all(accumulators, "accumulators")
        numbers = [
            ("float64", self.address(put(np.array([x], np.float64)))) if k in from_memory else float(x)
            for k, x in enumerate(hyperparameters)
        ]
        copies = []
        for i, value in enumerate(values):
            source, target = put(value), put(np.zeros_like(value), "value", i)
            results[f"value[{i}]"] = target
            copies.append((self.address(target), self.address(source), np.asarray(value).nbytes))
        plan = cuda.plan(
            rule,
            str(dtype),
            [x.size for x in params],
            gradients=[self.address(put(x, "gradients", i)) for i, x in enumerate(gradients)],
            params=param_at,
            params_out=param_to,
            slots=[at for at, _ in slot_pairs],
            slots_out=[to for _, to in slot_pairs],
            averages=average_at,
            averages_out=average_to,
            accumulators=accumulator_at,
            accumulators_out=accumulator_to,
            gradient_rows=rows(gradient_rows, "gradient_rows"),
            param_rows=rows(param_rows, "param_rows"),
            decays=list(decays),
            hyperparameters=numbers,
            scalars=[put_scalar(f"scalar[{k}]", x, self.scalar_dtype) for k, x in enumerate(scalars)],
            iterations=put_scalar("iterations", iterations, "int64"),
            loss_scale=None if loss_scale is None else put_scalar("loss_scale", loss_scale, "float32"),
            loss_counter=None if loss_counter is None else put_scalar("loss_counter", loss_counter, "int32"),
            options=dict(options or {}),
            copies=copies,
        )
        self.num_launches, self.num_bytes = plan.num_launches, plan.num_bytes
        scratch = put(np.zeros(max(plan.scratch_bytes, 1), np.uint8))
        if self.tickets is None:
            self.tickets = self.place(np.full(cuda.TICKETS_BYTES, 0xFF, np.uint8), 0)
            cuda.zero_tickets(self.stream, self.address(self.tickets))
        self.launch(lambda: plan.enqueue(self.stream, self.address(scratch), self.address(self.tickets)))
        self.after = {name: self.read(x) for name, x in results.items()}
        return self.after
