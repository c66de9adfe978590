"""The questions, by name. A new one is a module here with a `QUESTION`, and a line below."""

from benchmarks.questions import first_call, fit, leak, memory, models, runs, steps, threads, update, xla

QUESTIONS = {
    module.QUESTION.name: module.QUESTION
    for module in (
        steps,
        update,
        first_call,
        memory,
        leak,
        models,
        threads,
        fit,
        xla,
        runs,
    )
}
